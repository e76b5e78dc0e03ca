"""One conversation: with whom, under which settings, and what was said. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from .client import JsonObject

Message: TypeAlias = dict[str, object]  # as /api/chat takes it
Think: TypeAlias = bool | str | None


@dataclass(frozen=True, slots=True)
class View:
    """How answers are shown."""

    wordwrap: bool = True
    verbose: bool = False
    hide_thinking: bool = False
    history: bool = True


@dataclass(frozen=True, slots=True)
class Session:
    """What the next request is made from.

    `inherited` are the messages that the model itself begins with: the daemon sends them, we only
    keep them when the session is saved. `format` is "json", a schema, or None.
    """

    model: str
    system: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    inherited: tuple[Message, ...] = ()
    capabilities: tuple[str, ...] = ("completion",)
    format: JsonObject | str | None = None
    think: Think = None
    keep_alive: str | int | None = None
    truncate: bool | None = None
    view: View = View()

    def said(self, *messages: Message) -> Session:
        """The session after these messages."""
        return replace(self, messages=(*self.messages, *messages))

    def with_model(self, info: JsonObject) -> Session:
        """The session with the messages and abilities of its model, as /api/show tells them."""
        return replace(
            self,
            inherited=tuple(info.get("messages") or ()),
            capabilities=tuple(info.get("capabilities") or ()),
        )

    @property
    def only_embeds(self) -> bool:
        """Whether the model makes vectors and can't talk."""
        return "embedding" in self.capabilities and "completion" not in self.capabilities

    @property
    def sees_or_hears(self) -> bool:
        """Whether messages may carry pictures or sounds."""
        return bool({"vision", "audio"} & set(self.capabilities))

    def cleared(self) -> Session:
        """The same settings, nothing said yet."""
        return replace(self, messages=())

    def with_option(self, name: str, value: object) -> Session:
        """The session with one parameter set."""
        return replace(self, options={**self.options, name: value})

    def load_request(self) -> JsonObject:
        """An /api/chat body that loads the model and asks nothing."""
        return {"model": self.model, "messages": [], **self._wishes()}

    def chat_request(self) -> JsonObject:
        """An /api/chat body for the next answer."""
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        wishes = self._wishes()
        if self.format is not None:
            wishes["format"] = self.format
        if self.think is not None:
            wishes["think"] = self.think
        if self.truncate is not None:
            wishes["truncate"] = self.truncate
        return {"model": self.model, "messages": [*system, *self.messages], **wishes}

    def save_request(self, name: str) -> JsonObject:
        """An /api/create body that makes this conversation a model."""
        request: JsonObject = {"model": name, "from": self.model}
        if self.system:
            request["system"] = self.system
        if self.options:
            request["parameters"] = dict(self.options)
        if self.inherited or self.messages:
            request["messages"] = [*self.inherited, *self.messages]
        return request

    def _wishes(self) -> JsonObject:
        wishes: JsonObject = {}
        if self.options:
            wishes["options"] = dict(self.options)
        if self.keep_alive is not None:
            wishes["keep_alive"] = self.keep_alive
        return wishes


def user_message(text: str) -> Message:
    """What the user says, as a message."""
    return {"role": "user", "content": text}


def parse_keep_alive(text: str) -> str | int:
    """Seconds as a number, anything else as the daemon's duration syntax."""
    try:
        return int(text)
    except ValueError:
        return text


def parse_think(text: str) -> bool | str:
    """true and false are switches, the rest are levels that the daemon knows."""
    switches = {"true": True, "false": False}
    return switches.get(text.lower(), text.lower())
