"""The shapes of Ollama's API, for `/openapi.json`."""

from __future__ import annotations

from qm.modelfiles.parser import ROLES
from qm.modelfiles.quantization import FILE_TYPES

from ..chat.request import JsonObject
from .option_schemas import MODEL_PARAMETERS, OPTIONS
from .schema import (
    BASE64,
    BINARY,
    DIGEST,
    FLAG,
    KEEP_ALIVE,
    MAYBE_OBJECT,
    MAYBE_TEXT,
    MODEL,
    NAMED,
    NULL,
    NUMBER,
    NUMBERS,
    OBJECT,
    OBJECTS,
    TEXT,
    TEXT_OR_TEXTS,
    TEXTS,
    TOKEN,
    TOKENS,
    Parameter,
    Schema,
    any_of,
    shape,
    whole,
)
from .tool_schemas import TOOLS


def _maybe_many(item: JsonObject) -> JsonObject:
    return {"type": ["array", "null"], "items": item}


_COMMON: JsonObject = {
    "stream": FLAG,
    "format": any_of(OBJECT, {"enum": ["json", "", None]}),
    "keep_alive": KEEP_ALIVE,
    "options": OPTIONS,
    "think": any_of(FLAG, {"enum": ["low", "medium", "high", "max"]}),
    "truncate": FLAG,
    "shift": FLAG,
    "logprobs": FLAG,
    "top_logprobs": whole(0, 20),
}
_IMAGES = _maybe_many(BASE64)
_CALLS = _maybe_many(
    shape({}, id=MAYBE_TEXT, function=shape({}, name=MAYBE_TEXT, arguments=MAYBE_OBJECT))
)
_TURNS = _maybe_many(
    shape(
        {"role": TEXT},
        content=MAYBE_TEXT,
        thinking=MAYBE_TEXT,
        images=_IMAGES,
        tool_calls=_CALLS,
        tool_name=MAYBE_TEXT,
        tool_call_id=MAYBE_TEXT,
    )
)
_FILES: JsonObject = {"type": ["object", "null"], "additionalProperties": DIGEST}
_QUANTIZE: JsonObject = {"enum": [*sorted(FILE_TYPES), "", None]}
_VERSION: JsonObject = {
    "type": ["string", "null"],
    "pattern": r"^([0-9]{1,9}(\.[0-9]{1,9}){0,2})?$",
}
_NOTHING: JsonObject = {"enum": ["", None]}

MODEL_WANTED = Schema("Model", shape(NAMED, stream=FLAG))
SHOW = Schema("Show", shape(NAMED, verbose=FLAG))
CHAT = Schema("Chat", shape(NAMED, messages=_TURNS, tools=TOOLS, **_COMMON))
_TEMPLATED = shape(
    NAMED,
    prompt=MAYBE_TEXT,
    suffix=MAYBE_TEXT,
    system=MAYBE_TEXT,
    template=MAYBE_TEXT,
    raw={"enum": [False, None]},
    images=_IMAGES,
    context=_maybe_many(TOKEN),
    **_COMMON,
)
_RAW = shape(
    {**NAMED, "raw": {"const": True}},
    prompt=MAYBE_TEXT,
    suffix=MAYBE_TEXT,
    system=_NOTHING,
    template=_NOTHING,
    images=_IMAGES,
    context={"type": ["array", "null"], "items": TOKEN, "maxItems": 0},
    **_COMMON,
)
GENERATE = Schema("Generate", any_of(_TEMPLATED, _RAW))
EMBED = Schema(
    "Embed",
    shape(
        NAMED,
        input=any_of(TEXT_OR_TEXTS, NULL),
        truncate=FLAG,
        dimensions=whole(0),
        options=OPTIONS,
        keep_alive=KEEP_ALIVE,
    ),
)
NATIVE_PROMPT = Schema(
    "NativePrompt", shape(NAMED, prompt=MAYBE_TEXT, options=OPTIONS, keep_alive=KEEP_ALIVE)
)
_MADE: JsonObject = {
    "adapters": _FILES,
    "template": MAYBE_TEXT,
    "system": MAYBE_TEXT,
    "license": any_of(TEXT_OR_TEXTS, NULL),
    "parameters": MODEL_PARAMETERS,
    "messages": _maybe_many(shape({"role": {"enum": list(ROLES)}, "content": TEXT})),
    "quantize": _QUANTIZE,
    "draft": any_of(MODEL, _NOTHING),
    "draft_files": _FILES,
    "draft_quantize": _QUANTIZE,
    "requires": _VERSION,
    "stream": FLAG,
}
CREATE = Schema(
    "Create",
    any_of(
        shape(NAMED | {"from": MODEL}, files=_FILES, **_MADE),
        shape(NAMED | {"files": _FILES | {"type": "object", "minProperties": 1}}, **_MADE),
    ),
)
COPY = Schema("Copy", shape({"source": MODEL, "destination": MODEL}))
VERSION = Schema("Version", shape({"version": TEXT}))
HEALTH = Schema("Health", shape({"status": {"const": "ok"}}))
NATIVE_ANSWER = Schema(
    "NativeAnswer",
    shape(
        {"model": TEXT, "created_at": {"type": "string", "format": "date-time"}},
        done={"type": "boolean"},
        done_reason=TEXT,
        message=shape({"role": TEXT, "content": TEXT}, thinking=TEXT, tool_calls=OBJECTS),
        response=TEXT,
        thinking=TEXT,
        context=TOKENS,
        total_duration=NUMBER,
        load_duration=NUMBER,
        prompt_eval_count=NUMBER,
        prompt_eval_duration=NUMBER,
        eval_count=NUMBER,
        eval_duration=NUMBER,
        draft_count=NUMBER,
        draft_accepted_count=NUMBER,
        logprobs=OBJECTS,
    ),
)
NATIVE_EMBEDDINGS = Schema(
    "NativeEmbeddings", shape({"model": TEXT, "embeddings": {"type": "array", "items": NUMBERS}})
)
NATIVE_EMBEDDING = Schema("NativeEmbedding", shape({"embedding": NUMBERS}))
TAGS = Schema(
    "Tags",
    shape(
        {
            "models": {
                "type": "array",
                "items": shape(
                    {"name": TEXT, "model": TEXT, "size": NUMBER, "digest": TEXT},
                    details=OBJECT,
                ),
            }
        }
    ),
)
SHOWN = Schema(
    "Shown",
    shape(
        {
            "details": OBJECT,
            "model_info": OBJECT,
            "capabilities": TEXTS,
            "tensors": OBJECTS,
            "modified_at": TEXT,
        },
        modelfile=TEXT,
        parameters=TEXT,
        template=TEXT,
        system=TEXT,
    ),
)
PROGRESS = Schema("Progress", shape({"status": TEXT}, digest=TEXT, total=NUMBER, completed=NUMBER))
BYTES = Schema("Bytes", BINARY, "application/octet-stream")
BLOB = (Parameter("digest", DIGEST),)
