"""Separates a model's reasoning from its answer while both stream."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from qm.modelfiles.reasoning import THINK, Tags


class State(Enum):
    """Where in the output we are."""

    START = auto()  # only white space so far: the opening tag may still come
    THINKING = auto()
    BETWEEN = auto()  # white space after the closing tag belongs to neither
    CONTENT = auto()


@dataclass(frozen=True, slots=True)
class Split:
    """What one piece of output added."""

    thinking: str = ""
    content: str = ""


class ThinkingSplitter:
    """Feed it the output in any pieces; tags never show and are never torn.

    `opened` says that the prompt already ends inside the reasoning, as many templates do.
    """

    def __init__(self, *, opened: bool, tags: Tags = THINK) -> None:
        self._state = State.THINKING if opened else State.START
        self._start, self._end = tags.start, tags.end
        self._answer = tags.answer
        self._closing = ""  # what ends an answer that has tags of its own
        self._held = ""
        self._thought = False  # whether reasoning text came yet: white space before it is dropped

    @property
    def open(self) -> bool:
        """Whether we are inside the reasoning."""
        return self._state is State.THINKING

    def feed(self, text: str) -> Split:
        """What can be told apart by now; the rest is held until more comes."""
        self._held += text
        split = Split()
        while True:
            state = self._state
            step = self._step()
            split = Split(split.thinking + step.thinking, split.content + step.content)
            if self._state is state:
                return split

    def finish(self) -> Split:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        match self._state:
            case State.THINKING:
                return Split(thinking=held.rstrip())
            case State.BETWEEN:
                return Split(content=held.lstrip())
            case _:
                return Split(content=held)

    def _step(self) -> Split:
        match self._state:
            case State.START:
                return self._look_for_start()
            case State.THINKING:
                return self._think()
            case State.BETWEEN:
                return self._look_for_answer()
            case State.CONTENT:
                return self._say()

    def _look_for_start(self) -> Split:
        text = self._held.lstrip()
        if text.startswith(self._start):
            self._held = text.removeprefix(self._start)
            self._state = State.THINKING
        elif not self._start.startswith(text):
            self._state = State.CONTENT
        return Split()

    def _think(self) -> Split:
        if not self._thought:
            self._held = self._held.lstrip()
        text, tag, after = self._held.partition(self._end)
        if tag:
            self._held, self._state = after, State.BETWEEN
            return Split(thinking=text.rstrip())
        sure = len(text) - torn(text, self._end)
        sure = len(text[:sure].rstrip())  # white space before the closing tag is dropped
        self._held = text[sure:]
        self._thought = self._thought or sure > 0
        return Split(thinking=text[:sure])

    def _look_for_answer(self) -> Split:
        self._held = self._held.lstrip()
        start, end = self._answer or ("", "")
        if start and self._held.startswith(start):
            self._held, self._closing = self._held.removeprefix(start), end
            self._state = State.CONTENT
        elif self._held and not start.startswith(self._held):
            self._state = State.CONTENT
        return Split()

    def _say(self) -> Split:
        text, mark, after = self._held.partition(self._closing) if self._closing else ("", "", "")
        if mark:
            self._held, self._closing = "", ""
            return Split(content=text + after)
        sure = len(self._held) - (torn(self._held, self._closing) if self._closing else 0)
        content, self._held = self._held[:sure], self._held[sure:]
        return Split(content=content)


def torn(text: str, tag: str) -> int:
    """Length of the longest end of `text` that may be the beginning of `tag`."""
    longest = min(len(text), len(tag) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(tag[:size])), 0)
