"""The harmony format of gpt-oss: every message has a channel, which says what it is.

    <|channel|>analysis<|message|>reasoning<|end|>
    <|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{}<|call|>
    <|start|>assistant<|channel|>final<|message|>answer<|return|>

Source: https://cookbook.openai.com/articles/openai-harmony
"""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from typing import Final

from ..request import Delta, ToolCall, ToolCallPart, joined
from ..thinking import torn
from .calls import Malformed, arguments
from .sure_json import SureJson

_MESSAGE: Final = "<|message|>"
_ENDS: Final = ("<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>")
_CHANNEL: Final = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT: Final = re.compile(r"to=(?:functions\.)?([\w.\-]+)")


# A header that was cut off, which says nothing to anybody.
_BEGUN: Final = re.compile(
    r"(?:<\|start\|>)?(?:assistant)? ?(?:to=[\w.\-]+)? ?"
    r"(?:<\|channel\|>\w*(?: to=[\w.\-]*)? ?(?:<\|constrain\|>)? ?\w*)?(?:<[|\w]*)?"
)
_FIRST: Final = ("<|", "assistant", "to=")  # how a header may begin, behind the prompt's own part


def _may_begin(text: str) -> bool:
    return any(text.startswith(first) or first.startswith(text) for first in _FIRST)


class HarmonyParser:
    """Feed it the output in any pieces; marks never show, and nothing is ever lost."""

    def __init__(self) -> None:
        self._held = ""
        self._header: str | None = ""  # None: in a message
        self._channel = "final"
        self._tool = ""
        self._body = ""
        self._arguments = SureJson()
        self._id = ""
        self._n_calls = 0
        self._n_lost = 0

    @property
    def called(self) -> bool:
        """Whether the answer holds a call."""
        return self._n_calls > 0

    @property
    def lost(self) -> int:
        """How many calls were told in part, and are none."""
        return self._n_lost

    @property
    def reasons(self) -> bool:
        """Whether we are inside the reasoning."""
        return self._header is None and self._channel == "analysis" and not self._tool

    def feed(self, text: str) -> Delta:
        """What can be told by now; the rest is held until more comes."""
        self._held += text
        added: list[Delta] = []
        while True:
            before = (self._header is None, len(self._held))
            added.append(self._in_header() if self._header is not None else self._in_message())
            if before == (self._header is None, len(self._held)):
                return joined(added)

    def finish(self) -> Delta:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        if self._header is not None:
            is_header = _BEGUN.fullmatch(" ".join(held.split()))
            return Delta() if is_header else Delta(content=held)
        return joined([self._part(held), self._close()])

    def _in_header(self) -> Delta:
        if not _may_begin(self._held.lstrip()):  # no header at all: a model that answers plainly
            self._header, self._channel, self._tool = None, "final", ""
            return Delta()
        header, mark, rest = self._held.partition(_MESSAGE)
        if not mark:
            return Delta()
        channel, recipient = _CHANNEL.search(header), _RECIPIENT.search(header)
        self._channel = channel[1] if channel else "final"
        self._tool = recipient[1] if recipient else ""
        self._id = f"call_{secrets.token_hex(4)}" if self._tool else ""
        self._header, self._held = None, rest
        self._body, self._arguments = "", SureJson()
        if not self._tool:
            return Delta()
        return Delta(tool_parts=(ToolCallPart(self._index, self._tool, "", self._id),))

    def _in_message(self) -> Delta:
        found = [(self._held.find(mark), mark) for mark in _ENDS if mark in self._held]
        if not found:
            sure = len(self._held) - max(torn(self._held, mark) for mark in _ENDS)
            text, self._held = self._held[:sure], self._held[sure:]
            return self._part(text)
        at, mark = min(found)
        text, rest = self._held[:at], self._held[at + len(mark) :]
        self._held = mark + rest if mark in ("<|start|>", "<|channel|>") else rest
        added = joined([self._part(text), self._close()])
        self._header = ""
        return added

    def _part(self, text: str) -> Delta:
        """Text of the message that we are in."""
        if self._tool:
            self._body += text
            told = len(self._arguments.told)
            self._arguments.feed(text)
            return self._tell(self._arguments.told[told:])
        if self._channel == "analysis":
            return Delta(thinking=text)
        return Delta(content=text)

    def _close(self) -> Delta:
        """The call that the message was, if it was one."""
        if not self._tool:
            return Delta()
        name, body = self._tool, self._body.strip()
        self._tool = ""
        try:
            call = ToolCall(name, arguments(body), self._id, self._index)
        except Malformed:
            self._n_lost += 1
            return Delta(content=body)
        late = self._tell(self._arguments.rest(call))
        self._n_calls += 1
        return replace(late, tool_calls=(call,))

    @property
    def _index(self) -> int:
        return self._n_calls + self._n_lost

    def _tell(self, arguments: str) -> Delta:
        part = ToolCallPart(self._index, "", arguments)
        return Delta(tool_parts=(part,) if arguments else ())
