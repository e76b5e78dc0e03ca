"""The one internal request that every dialect translates to, and the events that answer it.

A dialect (`daemon/http/dialects/*.py`) parses its wire format into a `Request`, hands it to
`service.answer`, and prints the `Event`s in its own shape. Nothing here knows HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from ..runner.wire import Options, TokenLogprob
from . import json_text

JsonObject: TypeAlias = dict[str, Any]  # Any: a JSON document that a client or a model wrote


class Role(StrEnum):
    """Roles that templates know; unknown ones pass through as plain strings."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool; `arguments` is the parsed JSON object."""

    name: str
    arguments: JsonObject
    id: str = ""
    index: int = 0

    def arguments_json(self) -> str:
        """The arguments as the JSON text that OpenAI's and Anthropic's clients parse."""
        return json_text.written(self.arguments)


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A piece of a call while it is written; the first of an index has its name and id.

    `arguments` of all parts of an index, joined, are the JSON text of the call's arguments.
    """

    index: int
    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `images` holds decoded bytes, never URLs."""

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """How the output is constrained: exactly one field is set."""

    json_schema: JsonObject | bool | None = None  # {} or True: any JSON
    grammar: str | None = None  # GBNF


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`mode` is auto, none or required; `name` forces that one tool."""

    mode: str = "auto"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One generation, whatever the dialect.

    Exactly one of `messages` (chat), `prompt` (completion) or `tokens` is the input. `system` and
    `template` override the model's. `raw` sends the prompt as it is; `suffix` asks for
    fill-in-the-middle. `options` holds only what the client set, already range-checked; the
    model's own parameters fill the rest. `keep_alive_s` is None when the client left it out, and
    infinite for "forever". `continues` says that a last turn of the assistant's is the beginning of
    the answer, which goes on from there. `load_only` loads the model (or, with keep_alive_s == 0,
    unloads it) and generates nothing.
    """

    model: str
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    tokens: tuple[int, ...] | None = None
    images: tuple[bytes, ...] = ()
    suffix: str = ""
    system: str | None = None
    template: str | None = None
    raw: bool = False
    context: tuple[int, ...] = ()
    tools: tuple[JsonObject, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_calls: bool = True  # False: the answer ends with its first call
    format: Format | None = None
    think: bool | str | None = None
    options: Options = field(default_factory=Options)
    keep_alive_s: float | None = None
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    echo: bool = False  # the answer begins with the prompt, and so do its logprobs
    render_only: bool = False
    load_only: bool = False
    continues: bool = False
    client: str = ""  # whose request it is, for fairness among clients


class FinishReason(StrEnum):
    """Why generation ended."""

    STOP = "stop"  # an end-of-generation token
    STOP_SEQUENCE = "stop_sequence"  # a stop string of the request or the model
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class Metrics:
    """Times in nanoseconds, counts in tokens."""

    total_ns: int = 0
    load_ns: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, taken from the KV cache
    prompt_ns: int = 0
    generated_tokens: int = 0
    generate_ns: int = 0
    reasoning_tokens: int = 0  # of those generated
    drafted_tokens: int = 0  # guessed ahead
    accepted_tokens: int = 0  # of those, part of the answer


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt is rendered and counted; sent once, before any `Delta`.

    `options` are those in force: the request's, the model's, the defaults.
    """

    prompt_tokens: int
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer. Fields that are empty did not grow."""

    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()  # whole calls, in order
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_parts: tuple[ToolCallPart, ...] = ()  # the same calls, as they are being written

    @property
    def is_whole(self) -> bool:
        """Whether it has more than parts of calls."""
        return bool(self.content or self.thinking or self.tool_calls or self.logprobs)


def joined(deltas: Sequence[Delta]) -> Delta:
    """One delta that adds what all of these add, in their order."""
    return Delta(
        "".join(delta.content for delta in deltas),
        "".join(delta.thinking for delta in deltas),
        tuple(call for delta in deltas for call in delta.tool_calls),
        tuple(logprob for delta in deltas for logprob in delta.logprobs),
        tuple(part for delta in deltas for part in delta.tool_parts),
    )


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete. Errors arrive as exceptions, never as an event."""

    reason: FinishReason
    metrics: Metrics = Metrics()
    stop_sequence: str = ""
    context: tuple[int, ...] = ()
    rendered: str = ""  # for render_only


Event: TypeAlias = Started | Delta | Finished


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to turn into vectors; `dimensions` keeps the first so many, normalised again."""

    model: str
    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    truncate: bool = True
    dimensions: int | None = None
    options: Options = field(default_factory=Options)
    keep_alive_s: float | None = None
    client: str = ""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One L2-normalised vector a text, in their order."""

    vectors: tuple[tuple[float, ...], ...]
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Texts to score by how well they answer `query`."""

    model: str
    query: str
    texts: tuple[str, ...]
    truncate: bool = True
    options: Options = field(default_factory=Options)
    keep_alive_s: float | None = None
    client: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """One score a text, in their order; higher is better, the scale is the model's."""

    scores: tuple[float, ...]
    metrics: Metrics
