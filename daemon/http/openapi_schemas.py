"""The schemas of `/openapi.json`: what clients send, what they may rely on in answers."""

from __future__ import annotations

from ..chat.request import JsonObject

_TEXT: JsonObject = {"type": "string"}
_MAYBE_TEXT: JsonObject = {"type": ["string", "null"]}
_FLAG: JsonObject = {"type": ["boolean", "null"]}
_NUMBER: JsonObject = {"type": "number"}
_MAYBE_NUMBER: JsonObject = {"type": ["number", "null"]}
_COUNT: JsonObject = {"type": ["integer", "null"], "minimum": 0}
_OBJECT: JsonObject = {"type": "object"}
_OBJECTS: JsonObject = {"type": "array", "items": _OBJECT}
_TEXTS: JsonObject = {"type": "array", "items": _TEXT}
_NUMBERS: JsonObject = {"type": "array", "items": _NUMBER}
_TEXT_OR_TEXTS: JsonObject = {"anyOf": [_TEXT, _TEXTS]}
_TOKENS: JsonObject = {"type": "array", "items": {"type": "integer", "minimum": 0}}


def _object(required: JsonObject, **optional: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
    }


_MESSAGES: JsonObject = {
    "type": "array",
    "items": _object(
        {"role": {"type": "string", "enum": ["system", "user", "assistant"]}, "content": _TEXT}
    ),
}
_KEEP: JsonObject = {
    "type": ["string", "number"],
    "description": "seconds, or like 5m; -1: forever",
}
_NATIVE: JsonObject = {
    "stream": _FLAG,
    "format": {"anyOf": [_OBJECT, {"enum": ["json", ""]}]},
    "keep_alive": _KEEP,
    "options": _OBJECT,
    "think": {"anyOf": [_FLAG, {"enum": ["low", "medium", "high", "max"]}]},
    "truncate": _FLAG,
    "shift": _FLAG,
    "logprobs": _FLAG,
    "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
}
_SAMPLING: JsonObject = {
    "stream": _FLAG,
    "temperature": _MAYBE_NUMBER,
    "top_p": _MAYBE_NUMBER,
    "seed": {"type": ["integer", "null"]},
    "stop": {"anyOf": [_TEXT, _TEXTS, {"type": "null"}]},
    "max_tokens": _COUNT,
    "keep_alive": _KEEP,
}
_NAMED: JsonObject = {"model": _TEXT}

REQUESTS: dict[str, JsonObject] = {
    "Model": _object(_NAMED, stream=_FLAG, verbose=_FLAG),
    "Chat": _object(_NAMED, messages=_MESSAGES, tools=_OBJECTS, **_NATIVE),
    "Generate": _object(
        _NAMED,
        prompt=_TEXT,
        suffix=_TEXT,
        system=_TEXT,
        template=_TEXT,
        raw=_FLAG,
        images=_TEXTS,
        context=_TOKENS,
        **_NATIVE,
    ),
    "Embed": _object(
        _NAMED, input=_TEXT_OR_TEXTS, truncate=_FLAG, dimensions=_COUNT, options=_OBJECT
    ),
    "NativePrompt": _object(_NAMED, prompt=_TEXT, options=_OBJECT),
    "Tokenize": _object(_NAMED, text=_TEXT, add_special=_FLAG),
    "Detokenize": _object(_NAMED, tokens=_TOKENS),
    "Create": _object(
        _NAMED,
        **{"from": _TEXT},
        files=_OBJECT,
        adapters=_OBJECT,
        template=_TEXT,
        system=_TEXT,
        license=_TEXT_OR_TEXTS,
        parameters=_OBJECT,
        messages=_MESSAGES,
        quantize=_TEXT,
        draft=_TEXT,
        draft_files=_OBJECT,
        draft_quantize=_TEXT,
        stream=_FLAG,
    ),
    "Copy": _object({"source": _TEXT, "destination": _TEXT}),
    "Bytes": {"type": "string", "format": "binary"},
    "Form": _object({"model": _TEXT, "file": {"type": "string", "format": "binary"}}),
    "OpenAIChat": _object(
        {"model": _TEXT, "messages": _MESSAGES},
        tools=_OBJECTS,
        n={"type": "integer", "minimum": 1, "maximum": 128},
        **_SAMPLING,
    ),
    "OpenAICompletion": _object(
        _NAMED,
        prompt={"anyOf": [_TEXT_OR_TEXTS, _TOKENS]},
        suffix=_TEXT,
        echo=_FLAG,
        **_SAMPLING,
    ),
    "OpenAIEmbed": _object(
        {"model": _TEXT, "input": {"anyOf": [_TEXT_OR_TEXTS, _TOKENS]}},
        encoding_format={"enum": ["float", "base64"]},
        dimensions=_COUNT,
    ),
    "OpenAIResponse": _object(
        {"model": _TEXT, "input": {"anyOf": [_TEXT, _MESSAGES]}},
        instructions=_TEXT,
        max_output_tokens=_COUNT,
        stream=_FLAG,
        previous_response_id=_MAYBE_TEXT,
    ),
    "Rerank": _object({"model": _TEXT, "query": _TEXT, "documents": _TEXTS}, top_n=_COUNT),
    "Messages": _object(
        {
            "model": _TEXT,
            "messages": _MESSAGES,
            "max_tokens": {"type": "integer", "minimum": 1},
        },
        system=_TEXT,
        stream=_FLAG,
        temperature=_MAYBE_NUMBER,
        stop_sequences=_TEXTS,
    ),
    "CountTokens": _object({"model": _TEXT, "messages": _MESSAGES}, system=_TEXT),
}

SCHEMAS: dict[str, JsonObject] = {
    "Any": _OBJECT,
    "Version": _object({"version": _TEXT}),
    "Health": _object({"status": {"const": "ok"}}),
    "NativeAnswer": _object(
        {"model": _TEXT, "created_at": {"type": "string", "format": "date-time"}},
        done={"type": "boolean"},
        done_reason=_TEXT,
        message=_object({"role": _TEXT, "content": _TEXT}, thinking=_TEXT, tool_calls=_OBJECTS),
        response=_TEXT,
        thinking=_TEXT,
        context=_TOKENS,
        total_duration=_NUMBER,
        load_duration=_NUMBER,
        prompt_eval_count=_NUMBER,
        prompt_eval_duration=_NUMBER,
        eval_count=_NUMBER,
        eval_duration=_NUMBER,
        draft_count=_NUMBER,
        draft_accepted_count=_NUMBER,
        logprobs=_OBJECTS,
    ),
    "NativeEmbeddings": _object(
        {"model": _TEXT, "embeddings": {"type": "array", "items": _NUMBERS}}
    ),
    "NativeEmbedding": _object({"embedding": _NUMBERS}),
    "Tokens": _object({"model": _TEXT, "tokens": _TOKENS}),
    "Text": _object({"model": _TEXT, "text": _TEXT}),
    "Tags": _object(
        {
            "models": {
                "type": "array",
                "items": _object(
                    {"name": _TEXT, "model": _TEXT, "size": _NUMBER, "digest": _TEXT},
                    details=_OBJECT,
                ),
            }
        }
    ),
    "Shown": _object(
        {
            "details": _OBJECT,
            "model_info": _OBJECT,
            "capabilities": _TEXTS,
            "tensors": _OBJECTS,
            "modified_at": _TEXT,
        },
        modelfile=_TEXT,
        parameters=_TEXT,
        template=_TEXT,
        system=_TEXT,
    ),
    "Progress": _object({"status": _TEXT}, digest=_TEXT, total=_NUMBER, completed=_NUMBER),
    "OpenAIAnswer": _object(
        {
            "id": _TEXT,
            "object": {"enum": ["chat.completion", "text_completion"]},
            "created": _NUMBER,
            "model": _TEXT,
            "choices": {
                "type": "array",
                "items": _object(
                    {"index": _NUMBER, "finish_reason": _MAYBE_TEXT},
                    message=_object({"role": _TEXT, "content": _MAYBE_TEXT}),
                    text=_TEXT,
                ),
            },
            "usage": _object(
                {"prompt_tokens": _NUMBER, "completion_tokens": _NUMBER, "total_tokens": _NUMBER}
            ),
        }
    ),
    "OpenAIList": _object({"object": {"const": "list"}, "data": _OBJECTS, "model": _TEXT}),
    "ModelList": _object(
        {"data": {"type": "array", "items": {"$ref": "#/components/schemas/ModelEntry"}}}
    ),
    "ModelEntry": _object({"id": _TEXT}, object=_TEXT, type=_TEXT),
    "Ranking": _object({"model": _TEXT, "results": _OBJECTS}),
    "Response": _object(
        {
            "id": _TEXT,
            "object": {"const": "response"},
            "status": {"enum": ["completed", "incomplete"]},
            "output": _OBJECTS,
        }
    ),
    "Message": _object(
        {
            "id": _TEXT,
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "content": _OBJECTS,
            "stop_reason": {"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use"]},
            "usage": _object({"input_tokens": _NUMBER, "output_tokens": _NUMBER}),
        }
    ),
    "TokenCount": _object({"input_tokens": _NUMBER}),
}

ERRORS: dict[str, JsonObject] = {
    "NativeError": _object({"error": _TEXT}),
    "OpenAIError": _object(
        {"error": _object({"message": _TEXT, "type": _TEXT}, param=_MAYBE_TEXT, code=_MAYBE_TEXT)}
    ),
    "AnthropicError": _object(
        {
            "type": {"const": "error"},
            "error": _object({"type": _TEXT, "message": _TEXT}),
            "request_id": _TEXT,
        }
    ),
}
