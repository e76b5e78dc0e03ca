"""OpenAI's requests, translated into ours. Pure: documents in, `Request`s out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..chat.request import EmbedRequest, Format, Request
from .choices import MOST_CHOICES
from .content import InvalidContent, effort, named_options, token_limit
from .fields import Fields, WrongType, field_of
from .ollama_request import (
    ANY_OBJECT,
    MOST_TOP_LOGPROBS,
    InvalidField,
    keep_alive_s,
    model_name,
    token,
)
from .openai_messages import messages
from .openai_tools import (
    allowed,
    custom_names,
    function_choice,
    functions,
    speaks_of_functions,
    tool_choice,
    tools,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks: one request a choice, and how to print the answers."""

    requests: tuple[Request, ...]
    stream: bool = False
    include_usage: bool = False
    n: int = 1  # answers to each prompt, side by side
    functions: bool = False  # calls are told in the words of old clients
    custom: frozenset[str] = frozenset()  # tools that take a text

    @property
    def model(self) -> str:
        return self.requests[0].model


def chat_wanted(fields: Fields) -> Wanted:
    """The meaning of a body of `/v1/chat/completions`."""
    turns = messages(fields)
    if not turns:
        raise InvalidContent("[] is too short - 'messages'")
    old = speaks_of_functions(fields)
    request = Request(
        model=model_name(fields),
        messages=turns,
        tools=functions(fields) if old else allowed(fields, tools(fields)),
        tool_choice=function_choice(fields) if old else tool_choice(fields),
        parallel_calls=fields.boolean("parallel_tool_calls", True) and not old,
        format=response_format(fields),
        think=_think(fields),
        options=named_options(fields, token_limit(fields, "max_completion_tokens", "max_tokens")),
        logprobs=fields.boolean("logprobs", False),
        top_logprobs=bounded(fields, "top_logprobs", 0, 0, MOST_TOP_LOGPROBS),
        **lifetime(fields),
    )
    custom = frozenset() if old else custom_names(fields)
    return replace(_wanted(fields, [request]), functions=old, custom=custom)


def completion_wanted(fields: Fields) -> Wanted:
    """The meaning of a body of `/v1/completions`: the prompt goes to the model as it is."""
    if bounded(fields, "best_of", 1, 1, MOST_CHOICES) > fields.integer("n", 1):
        raise InvalidField("best_of is not supported; ask for n choices", "best_of")
    logprobs = fields.optional_integer("logprobs")
    bounded(fields, "logprobs", 0, 0, MOST_TOP_LOGPROBS)
    suffix, echo = fields.text("suffix"), fields.boolean("echo", False)
    if suffix and echo and logprobs is not None:
        raise InvalidField(
            "echo with logprobs and a suffix: a gap's surroundings are not scored", "echo"
        )
    base = Request(
        model=model_name(fields),
        suffix=suffix,
        raw=not suffix,
        options=named_options(fields, token_limit(fields, "max_tokens")),
        logprobs=logprobs is not None,
        top_logprobs=logprobs or 0,
        echo=echo,
        **lifetime(fields),
    )
    return _wanted(fields, [_with_prompt(base, prompt) for prompt in _prompts(fields)])


def embed_wanted(fields: Fields) -> EmbedRequest:
    """The meaning of a body of `/v1/embeddings`: texts, or what they are as tokens."""
    texts, tokens = _inputs(fields, "input")
    if not texts and not tokens:
        raise InvalidContent("invalid input")
    dimensions = fields.optional_integer("dimensions")
    if dimensions is not None and dimensions < 1:
        raise InvalidField(f"dimensions must be positive, not {dimensions}", "dimensions")
    if fields.text("encoding_format", "float") not in ("", "float", "base64"):
        raise InvalidField("encoding_format must be float or base64", "encoding_format")
    return EmbedRequest(
        model=model_name(fields),
        texts=texts,
        tokens=tokens,
        dimensions=dimensions,
        truncate=fields.boolean("truncate", False),
        options=named_options(fields, None),
        keep_alive_s=keep_alive_s(fields),
    )


def lifetime(fields: Fields) -> dict[str, Any]:  # Any: arguments of `Request`
    """Ours on every generating route: how long the model stays, what may be cut."""
    return {
        "keep_alive_s": keep_alive_s(fields),
        "truncate": fields.boolean("truncate", False),
        "shift": fields.boolean("shift", True),
    }


def response_format(fields: Fields) -> Format | None:
    """How the output is constrained. Raises InvalidField for what can't be enforced."""
    wanted = fields.fields("response_format")
    match wanted.text("type"):
        case "" | "text":
            return None
        case "json_object":
            return Format(json_schema=wanted.document("schema") or ANY_OBJECT)
        case "json_schema":
            return Format(json_schema=wanted.fields("json_schema").document("schema"))
        case kind:
            path = field_of(wanted.path("type"))
            raise InvalidField(
                f"{path} must be text, json_object or json_schema, not {kind[:100]!r}", path
            )


def bounded(fields: Fields, name: str, default: int, low: int, high: int) -> int:
    value = fields.integer(name, default)
    if not low <= value <= high:
        raise InvalidField(f"{name} must be between {low} and {high}, not {value}", name)
    return value


def _think(fields: Fields) -> bool | str | None:
    """OpenAI's word, or the one in `reasoning`, or a template's switch."""
    word = effort(fields.raw("reasoning_effort"), fields.path("reasoning_effort"))
    if word is None:
        reasoning = fields.fields("reasoning")
        word = effort(reasoning.raw("effort"), reasoning.path("effort"))
    if word is None:
        switch = fields.fields("chat_template_kwargs").raw("enable_thinking")
        word = switch if isinstance(switch, bool) else None
    return word


def _wanted(fields: Fields, requests: list[Request]) -> Wanted:
    n = bounded(fields, "n", 1, 1, MOST_CHOICES)
    choices = [_nth(request, index) for request in requests for index in range(n)]
    if len(choices) > MOST_CHOICES:
        raise InvalidField(f"at most {MOST_CHOICES} choices at once, not {len(choices)}", "n")
    return Wanted(
        requests=tuple(choices),
        stream=fields.boolean("stream", False),
        include_usage=fields.fields("stream_options").boolean("include_usage", False),
        n=n,
    )


def _nth(request: Request, index: int) -> Request:
    """The same request for another choice: a fixed seed would give the same answer."""
    seed = request.options.seed
    if not index or seed is None or seed < 0:
        return request
    return replace(request, options=msgspec.structs.replace(request.options, seed=seed + index))


def _with_prompt(base: Request, prompt: str | tuple[int, ...]) -> Request:
    if isinstance(prompt, tuple):
        return replace(base, tokens=prompt)
    return replace(base, prompt=prompt, load_only=not (prompt or base.suffix))


def _prompts(fields: Fields) -> list[str | tuple[int, ...]]:
    if fields.raw("prompt") is None:
        return [""]
    texts, tokens = _inputs(fields, "prompt")
    return [*texts, *tokens] or [""]


def _inputs(fields: Fields, name: str) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """A text, a list of texts, a list of tokens, or a list of those: as texts, as tokens."""
    value, path = fields.raw(name), fields.path(name)
    if isinstance(value, str):
        return (value,), ()
    if value is None:
        return (), ()
    if not isinstance(value, list):
        raise WrongType(path, "string", value)
    if all(isinstance(item, str) for item in value):
        return tuple(value), ()
    if all(isinstance(item, int | float) for item in value):
        return (), (_tokens(value, path),)
    if all(isinstance(item, list) for item in value):
        return (), tuple(_tokens(item, f"{path}[{i}]") for i, item in enumerate(value))
    raise InvalidField(f"{name} must hold texts or tokens, and only one of them", name)


def _tokens(items: list[object], path: str) -> tuple[int, ...]:
    if not items:
        raise InvalidField(f"{field_of(path)} must not be empty", field_of(path))
    return tuple(token(item, f"{path}[{index}]") for index, item in enumerate(items))
