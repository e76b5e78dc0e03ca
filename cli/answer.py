"""One answer, from request to the last word on the screen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TextIO

from .client import Client, JsonObject
from .progress import Spinner
from .session import Session
from .wrap import WordWrap, printable

DIM, NORMAL = "\x1b[2m", "\x1b[0m"
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said; `interrupted` when the user had enough before it was done."""

    content: str = ""
    thinking: str = ""
    interrupted: bool = False
    metrics: JsonObject = field(default_factory=dict)


class Printer(Protocol):
    """Shows an answer as it comes."""

    def thinking(self, text: str) -> None: ...
    def content(self, text: str) -> None: ...
    def finish(self) -> None: ...


class PlainPrinter:
    """The answer's bytes and a final newline, for pipes and files; reasoning is left out."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = ""

    def thinking(self, text: str) -> None:
        """Not part of the result."""

    def content(self, text: str) -> None:
        if text:
            self._out.write(text)
            self._out.flush()
            self._last = text[-1]

    def finish(self) -> None:
        if self._last not in ("", "\n"):
            self._out.write("\n")
        self._out.flush()


class TerminalPrinter:
    """The answer for a person: words kept whole, reasoning dimmed, control characters dropped."""

    def __init__(self, out: TextIO, columns: int | None, *, hide_thinking: bool = False) -> None:
        """`columns` None: let the terminal break lines."""
        self._out = out
        self._columns = columns
        self._hide_thinking = hide_thinking
        self._wrap = self._new_wrap()
        self._is_thinking = False
        self._has_written = False

    def thinking(self, text: str) -> None:
        if self._hide_thinking or not text:
            return
        if not self._is_thinking:
            self._is_thinking = True
            self._out.write(f"{DIM}Thinking…\n")
        self._write(text)

    def content(self, text: str) -> None:
        if not text:
            return
        self._end_thinking()
        self._write(text)

    def finish(self) -> None:
        self._end_thinking()
        if self._has_written:
            self._out.write("\n\n")
        self._out.flush()

    def _end_thinking(self) -> None:
        if self._is_thinking:
            self._is_thinking = False
            self._out.write(f"\n…done thinking.{NORMAL}\n\n")
            self._wrap = self._new_wrap()

    def _write(self, text: str) -> None:
        self._has_written = True
        clean = printable(text)
        self._out.write(self._wrap.feed(clean) if self._wrap else clean)
        self._out.flush()

    def _new_wrap(self) -> WordWrap | None:
        return WordWrap(self._columns) if self._columns else None


def stream_answer(client: Client, session: Session, printer: Printer, spinner: Spinner) -> Answer:
    """Ask, show, and give back what was said. Ctrl-C ends it early: the daemon stops generating.

    `spinner` turns until the first word. Raises Refused, DaemonGone and DaemonNotRunning.
    """
    content: list[str] = []
    thinking: list[str] = []
    metrics: JsonObject = {}
    interrupted = False
    try:
        with spinner, client.stream("/api/chat", session.chat_request()) as items:
            for item in items:
                spinner.stop()
                message = item.get("message") or {}
                thinking.append(message.get("thinking") or "")
                printer.thinking(thinking[-1])
                content.append(message.get("content") or "")
                printer.content(content[-1])
                if item.get("done"):
                    metrics = item
    except KeyboardInterrupt:
        interrupted = True
    finally:
        printer.finish()
    return Answer("".join(content), "".join(thinking), interrupted, metrics)


def timings_text(metrics: JsonObject) -> str:
    """The figures of --verbose, one a line."""
    lines = [
        ("total duration", _seconds(metrics.get("total_duration", 0))),
        ("load duration", _seconds(metrics.get("load_duration", 0))),
        *_phase("prompt eval", metrics, "prompt_eval"),
        *_phase("eval", metrics, "eval"),
    ]
    return "\n".join(f"{name + ':':<22}{value}" for name, value in lines)


def _phase(words: str, metrics: JsonObject, key: str) -> list[tuple[str, str]]:
    count, spent_ns = metrics.get(f"{key}_count", 0), metrics.get(f"{key}_duration", 0)
    lines = [(f"{words} count", f"{count} tokens"), (f"{words} duration", _seconds(spent_ns))]
    if spent_ns:
        lines.append((f"{words} rate", f"{count * NS_PER_S / spent_ns:.2f} tokens/s"))
    return lines


def _seconds(spent_ns: int) -> str:
    seconds = spent_ns / NS_PER_S
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
