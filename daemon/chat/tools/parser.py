"""Finds blocks of tool calls in an answer while it streams."""

from __future__ import annotations

import re
import secrets
from enum import Enum, auto
from typing import Final

from ..request import Delta, ToolCall, ToolCallPart, joined
from ..thinking import torn
from .calls import Call, Malformed, Tools
from .formats import ToolFormat
from .scanner import ArgumentScanner


class State(Enum):
    """Where in the answer we are."""

    START = auto()  # only white space so far: a call without marks may still begin
    TEXT = auto()
    BLOCK = auto()  # between the marks of a block
    BARE = auto()  # in what looks like a call without marks


class ToolCallParser:
    """Feed it the answer in any pieces; marks never show, and nothing is ever lost.

    A block that can't be read comes out as the text that it is, marks included. `opened` says that
    the prompt ends inside a block already.
    """

    def __init__(self, form: ToolFormat, tools: Tools, *, opened: bool = False) -> None:
        self._form = form
        self._tools = tools
        self._held = ""
        self._mark = ""
        self._at = 0  # where in a block its end may be
        self._ids: list[str] = []
        self._n_calls = 0
        self._n_lost = 0
        self._state = State.BLOCK if opened else State.START
        self._scanner = self._new_scanner()

    @property
    def called(self) -> bool:
        """Whether the answer holds a call."""
        return self._n_calls > 0

    @property
    def lost(self) -> int:
        """How many calls were told in part, and are none: what was told can't be taken back."""
        return self._n_lost

    def feed(self, text: str) -> Delta:
        """What can be told by now; the rest is held until more comes."""
        self._held += text
        if self._state is State.BARE:
            self._bare()  # before anything is told of a call that it is none
        added = self._scan(text)
        while True:
            state, held = self._state, self._held
            added = joined([added, self._step()])
            if self._state is state and len(self._held) == len(held):
                return added

    def finish(self) -> Delta:
        """What was held back, now that nothing follows."""
        if self._state is State.BLOCK and self._at and in_string(self._held):
            self._at = 0  # it never ended: the mark that it held back was one
            return joined([self._block(anyhow=True), self.feed(""), self.finish()])
        held, self._held = self._held, ""
        if self._state in (State.BLOCK, State.BARE):
            if held.strip():
                return self._read(held, closed_by="")
            held = self._mark + held
        return Delta(content="" if self.called and not held.strip() else held)

    # States -------------------------------------------------------------------------------------

    def _step(self) -> Delta:
        match self._state:
            case State.START:
                return self._start()
            case State.TEXT:
                return self._text()
            case State.BLOCK:
                return self._block()
            case State.BARE:
                return Delta()

    def _start(self) -> Delta:
        body = self._held.lstrip()
        if not body:
            return Delta()
        if self._form.bare and may_be_call(body, self._tools):
            self._enter(State.BARE, "")
            return Delta(tool_parts=self._scan_parts(self._held))
        self._state = State.TEXT
        return Delta()

    def _bare(self) -> None:
        if not may_be_call(self._held.lstrip(), self._tools):
            self._state = State.TEXT

    def _text(self) -> Delta:
        marks = (*self._form.starts, *self._form.first)
        found = [(self._held.find(mark), mark) for mark in marks if mark in self._held]
        if not found:
            sure = len(self._held) - max((torn(self._held, mark) for mark in marks), default=0)
            if marks:  # white space before a block belongs to it, and shows only if it is no call
                sure = len(self._held[:sure].rstrip())
            content, self._held = self._held[:sure], self._held[sure:]
            return Delta(content=content)
        at, mark = min(found)
        if mark in self._form.first:
            mark = ""
        before, self._held = self._held[:at], self._held[at + len(mark) :]
        content = before.rstrip()
        self._enter(State.BLOCK, before[len(content) :] + mark)
        return Delta(content=content, tool_parts=self._scan_parts(self._inside()))

    def _block(self, *, anyhow: bool = False) -> Delta:
        end = min(self._ends(), default=None) if anyhow else self._end()
        if end is None:
            return Delta()
        at, mark = end
        body, self._held = self._held[:at], self._held[at + len(mark) :]
        added = self._read(body, closed_by=mark)
        self._state = State.TEXT if added.content else State.START
        return added

    def _enter(self, state: State, mark: str) -> None:
        self._state, self._mark, self._at = state, mark, 0
        self._scanner = self._new_scanner()

    # Calls --------------------------------------------------------------------------------------

    def _new_scanner(self) -> ArgumentScanner:
        return ArgumentScanner(self._tools.schemas, self._next_index)

    def _scan(self, text: str) -> Delta:
        """Parts of a call in the block that we are in."""
        if self._state not in (State.BLOCK, State.BARE):
            return Delta()
        return Delta(tool_parts=self._scan_parts(text))

    def _scan_parts(self, text: str) -> tuple[ToolCallPart, ...]:
        if not self._form.json_body:
            return ()
        parts = self._scanner.feed(text)
        return tuple(self._with_id(part) for part in parts)

    def _ends(self) -> list[tuple[int, str]]:
        """Where the block that we are in may end, and by which mark."""
        found = ((self._held.find(mark, self._at), mark) for mark in self._form.ends)
        return [(at, mark) for at, mark in found if at >= 0]

    def _end(self) -> tuple[int, str] | None:
        """Where it ends: a mark inside of a string is a part of that."""
        while found := self._ends():
            at, mark = min(found)
            if not (self._form.json_body and in_string(self._held[:at])):
                return at, mark
            self._at = at + len(mark)
        return None

    def _inside(self) -> str:
        """What of the block is here."""
        end = self._end()
        return self._held[: end[0]] if end else self._held

    def _read(self, body: str, *, closed_by: str) -> Delta:
        """The calls of a whole block, with the parts that were not streamed."""
        try:
            calls = self._form.read(body, self._tools)
        except Malformed:
            return self._no_call(self._mark + body + closed_by)
        if self._state is State.BARE and any(
            call.name not in self._tools.schemas for call in calls
        ):
            return self._no_call(body)
        whole = tuple(self._numbered(call) for call in calls)
        late = [self._scanner.late(call) for call in whole]
        return Delta(tool_calls=whole, tool_parts=tuple(part for part in late if part))

    def _no_call(self, text: str) -> Delta:
        """The text of a block that can't be read; no later call continues what was told of it."""
        self._n_lost += self._scanner.begun
        return Delta(content=text)

    @property
    def _next_index(self) -> int:
        return self._n_calls + self._n_lost

    def _numbered(self, call: Call) -> ToolCall:
        index = self._next_index
        self._n_calls += 1
        return ToolCall(call.name, call.arguments, self._id(index), index)

    def _with_id(self, part: ToolCallPart) -> ToolCallPart:
        if not part.name:
            return part
        return ToolCallPart(part.index, part.name, part.arguments, self._id(part.index))

    def _id(self, index: int) -> str:
        while len(self._ids) <= index:
            self._ids.append(f"call_{secrets.token_hex(4)}")
        return self._ids[index]


_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def in_string(text: str) -> bool:
    """Whether JSON is cut inside of a string."""
    return text.lstrip().startswith(("{", "[")) and '"' in _STRING.sub("", text)


def may_be_call(text: str, tools: Tools) -> bool:
    """Whether `text`, which begins an answer, may be a call to one of the tools without marks."""
    written = re.sub(r"\s+", "", text[:400])
    heads = ['{"type":"function"', '{"function":']
    for name in tools.schemas:
        heads += [f'{{"name":"{name}"', f"[{name}(", f"{name}(", f"{name}{{"]
    heads += [f"[{head}" for head in heads if head.startswith("{")]
    return any(head.startswith(written) or written.startswith(head) for head in heads)
