"""The shapes of OpenAI's API, for `/openapi.json`."""

from __future__ import annotations

from ..chat.request import JsonObject
from .choices import MOST_CHOICES
from .option_schemas import OPTION_SHAPES
from .schema import (
    BINARY,
    FLAG,
    KEEP_ALIVE,
    MAYBE_OBJECT,
    MAYBE_TEXT,
    MODEL,
    NAMED,
    NULL,
    NUMBER,
    OBJECT,
    OBJECTS,
    TEXT,
    TOKEN,
    TOKENS,
    Parameter,
    Schema,
    any_of,
    array_of,
    shape,
    whole,
)
from .tool_schemas import FUNCTIONS, NAME, OPENAI_TOOLS

DATA_URL: JsonObject = {
    "type": "string",
    "pattern": "^data:image/(png|jpeg);base64,([A-Za-z0-9+/]{4})*$",
}
BASE64: JsonObject = {"type": "string", "pattern": "^([A-Za-z0-9+/]{4})*$"}
EFFORT: JsonObject = {
    "enum": ["none", "minimal", "low", "medium", "high", "xhigh", "max", None],
}
REASONING: JsonObject = shape({}, effort=EFFORT) | {"type": ["object", "null"]}
CHOICE_WORDS: JsonObject = {"enum": ["auto", "none", "required", None]}
# Any option may stand here under its own name; these are the ones that clients send.
_SENT = ("temperature", "top_p", "top_k", "min_p", "seed", "stop", "logit_bias")
_PENALTIES = ("presence_penalty", "frequency_penalty", "repeat_penalty")
SAMPLING: JsonObject = {name: OPTION_SHAPES[name] for name in (*_SENT, *_PENALTIES)} | {
    "stream": FLAG,
    "keep_alive": KEEP_ALIVE,
    "truncate": FLAG,
    "shift": FLAG,
}
_PART = any_of(
    shape({"type": {"const": "text"}, "text": TEXT}),
    shape({"type": {"const": "image_url"}, "image_url": shape({"url": DATA_URL})}),
    shape({"type": {"const": "input_audio"}, "input_audio": shape({"data": BASE64})}),
)
_GIVEN = shape({"name": NAME, "input": TEXT})
_CALLED = shape({"name": NAME}, arguments=any_of(OBJECT, {"const": ""}, NULL))
_TURN = shape(
    {"role": TEXT},
    content=any_of(TEXT, array_of(_PART), NULL),
    name=MAYBE_TEXT,
    reasoning_content=MAYBE_TEXT,
    tool_call_id=MAYBE_TEXT,
    tool_calls={
        "type": ["array", "null"],
        "items": any_of(
            shape({"function": _CALLED}, id=MAYBE_TEXT, type={"enum": ["function", None]}),
            shape({"type": {"const": "custom"}, "custom": _GIVEN}, id=MAYBE_TEXT),
        ),
    },
    function_call=any_of(_CALLED, NULL),
)
_CHOICE = any_of(
    CHOICE_WORDS,
    shape({"type": {"const": "function"}, "function": shape({"name": NAME})}),
    shape({"type": {"const": "custom"}, "custom": shape({"name": NAME})}),
)
_FORMAT = any_of(
    shape({"type": {"const": "text"}}),
    shape({"type": {"const": "json_object"}}, schema=MAYBE_OBJECT),
    shape({"type": {"const": "json_schema"}, "json_schema": shape({"schema": OBJECT})}),
    NULL,
)
_COUNT = whole(1, MOST_CHOICES)
_SHARED: JsonObject = SAMPLING | {
    "max_tokens": whole(-1),
    "stream_options": shape({}, include_usage=FLAG) | {"type": ["object", "null"]},
}

CHAT = Schema(
    "OpenAIChat",
    shape(
        {"model": MODEL, "messages": array_of(_TURN, minItems=1)},
        tools=OPENAI_TOOLS,
        tool_choice=_CHOICE,
        functions=FUNCTIONS,
        function_call=any_of({"enum": ["auto", "none", None]}, shape({"name": NAME})),
        parallel_tool_calls=FLAG,
        response_format=_FORMAT,
        n=_COUNT,
        max_completion_tokens=whole(-1),
        logprobs=FLAG,
        top_logprobs=whole(0, 20),
        reasoning_effort=EFFORT,
        reasoning=REASONING,
        chat_template_kwargs=MAYBE_OBJECT,
        **_SHARED,
    ),
)
_NO: JsonObject = {"enum": [False, None]}


def _completions(**scored: JsonObject) -> tuple[JsonObject, JsonObject]:
    """Of one prompt, several answers; or of several prompts."""
    texts = array_of(TEXT, maxItems=MOST_CHOICES)
    tokens = array_of(array_of(TOKEN, minItems=1), maxItems=MOST_CHOICES)
    fields = _SHARED | {"logprobs": whole(0, 20)} | scored
    return (
        shape(NAMED, prompt=any_of(TEXT, TOKENS), n=_COUNT, **fields),
        shape(NAMED, prompt=any_of(texts, tokens), n=whole(1, 1), **fields),
    )


COMPLETION = Schema(
    "OpenAICompletion",
    any_of(
        shape(
            NAMED,
            prompt=MAYBE_TEXT,
            n=_COUNT,
            **_SHARED,
            suffix=MAYBE_TEXT,
            logprobs=NULL,
            echo=FLAG,
        ),
        *_completions(suffix={"enum": ["", None]}, echo=FLAG),
        *_completions(suffix=MAYBE_TEXT, echo=_NO),
    ),
)
EMBED = Schema(
    "OpenAIEmbed",
    shape(
        {
            "model": MODEL,
            "input": any_of(
                TEXT,
                array_of(TEXT, minItems=1),
                array_of(TOKEN, minItems=1),
                array_of(array_of(TOKEN, minItems=1), minItems=1),
            ),
        },
        encoding_format={"enum": ["float", "base64", None]},
        dimensions=whole(1),
        keep_alive=KEEP_ALIVE,
    ),
)
RERANK = Schema(
    "Rerank",
    shape(
        {
            "model": MODEL,
            "query": {"type": "string", "minLength": 1},
            "documents": array_of(any_of(TEXT, shape({"text": TEXT})), minItems=1),
        },
        top_n=whole(1),
        return_documents=FLAG,
        keep_alive=KEEP_ALIVE,
    ),
)
FORM = Schema(
    "Form",
    shape({"model": TEXT, "file": BINARY}, response_format={"enum": ["json", "text"]}),
    "multipart/form-data",
)
TRANSCRIPT = Schema("Transcript", shape({"text": TEXT, "usage": OBJECT}))
ANSWER = Schema(
    "OpenAIAnswer",
    shape(
        {
            "id": TEXT,
            "object": {"enum": ["chat.completion", "text_completion"]},
            "created": NUMBER,
            "model": TEXT,
            "choices": {
                "type": "array",
                "items": shape(
                    {"index": NUMBER, "finish_reason": MAYBE_TEXT},
                    message=shape({"role": TEXT, "content": MAYBE_TEXT}),
                    text=TEXT,
                ),
            },
            "usage": shape(
                {"prompt_tokens": NUMBER, "completion_tokens": NUMBER, "total_tokens": NUMBER}
            ),
        }
    ),
)
EMBEDDINGS = Schema(
    "OpenAIList", shape({"object": {"const": "list"}, "data": OBJECTS, "model": TEXT})
)
MODEL_PATH = (Parameter("model", MODEL),)
MODEL_ENTRY = Schema("ModelEntry", shape({"id": TEXT}, object=TEXT, type=TEXT))
MODEL_LIST = Schema(
    "ModelList",
    shape({"data": {"type": "array", "items": MODEL_ENTRY.document}}),
)
RANKING = Schema("Ranking", shape({"model": TEXT, "results": OBJECTS}))
ERROR = Schema(
    "OpenAIError",
    shape({"error": shape({"message": TEXT, "type": TEXT}, param=MAYBE_TEXT, code=MAYBE_TEXT)}),
)
