"""What is going on, on stderr: bars and a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Event, Thread
from typing import Self, TextIO

from .client import JsonObject
from .table import duration_text, size_text

FRAME_S = 0.1
LOG_S = 10.0  # between two lines about one step where no terminal is
SPINNER_PATIENCE_S = 0.15  # what is quicker needs no spinner
SPINNER_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
BAR_COLUMNS = 24
SUCCESS = "success"
CLEAR_LINE = "\r\x1b[K"


class Spinner:
    """Turns on a terminal while one waits; silent elsewhere and for short waits."""

    def __init__(self, out: TextIO, words: str = "") -> None:
        self._out = out
        self._words = words
        self._stopped = Event()
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        if self._out.isatty():
            self._thread = Thread(target=self._turn, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take it off the screen; nothing more is drawn when this returns."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _turn(self) -> None:
        if self._stopped.wait(SPINNER_PATIENCE_S):
            return
        frame = 0
        while True:
            mark = SPINNER_FRAMES[frame % len(SPINNER_FRAMES)]
            self._out.write(f"{CLEAR_LINE}{mark} {self._words}")
            self._out.flush()
            frame += 1
            if self._stopped.wait(FRAME_S):
                break
        self._out.write(CLEAR_LINE)
        self._out.flush()


@dataclass(frozen=True, slots=True)
class Step:
    """One progress object of the daemon: what it does, and how much of it is done."""

    status: str
    completed: int = 0
    total: int = 0
    unit: str = ""  # what is counted, if not bytes
    all_completed: int = 0  # of everything that is to come, where this is only a part
    all_total: int = 0

    @classmethod
    def of(cls, item: JsonObject) -> Step:
        """Read from the wire; counts may be missing."""
        return cls(
            str(item.get("status", "")),
            int(item.get("completed") or 0),
            int(item.get("total") or 0),
            str(item.get("unit") or ""),
            int(item.get("all_completed") or 0),
            int(item.get("all_total") or 0),
        )


class Progress:
    """Shows the steps of a job on `out` as they come."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._live = out.isatty()
        self._step = Step("")
        self._began = self._drawn = clock()
        self._began_at = 0  # bytes that were done when we first heard of the step

    def follow(self, items: Iterable[JsonObject]) -> JsonObject:
        """Show every item; the last one is the job's result."""
        item: JsonObject = {}
        try:
            for item in items:
                step = Step.of(item)
                if step.status != SUCCESS:  # the caller says what has succeeded
                    self.show(step)
        finally:
            self.close()
        return item

    def show(self, step: Step) -> None:
        """Draw one step, ten times a second at most while only its count changes; in a log, now
        and then.
        """
        if step.status != self._step.status:
            self._begin(step)
        elif step != self._step and self._is_due(step):
            self._step = step
            self._redraw()

    def close(self) -> None:
        """Leave the last line standing."""
        if self._live and self._step.status:
            self._out.write("\n")
            self._out.flush()
        self._step = Step("")

    def _is_due(self, step: Step) -> bool:
        since_s = self._clock() - self._drawn
        if self._live:
            return since_s >= FRAME_S or step.completed >= step.total
        return since_s >= LOG_S and bool(step.total)

    def _begin(self, step: Step) -> None:
        self.close()
        self._step = step
        self._drawn = self._clock()
        self._began, self._began_at = self._clock(), step.completed
        if self._live:
            self._redraw()
        else:
            self._out.write(f"{step.status}\n")
            self._out.flush()

    def _redraw(self) -> None:
        self._drawn = self._clock()
        if self._live:
            line = step_line(self._step, self._rate())
            columns = shutil.get_terminal_size().columns - 1
            self._out.write(f"{CLEAR_LINE}{line[:columns]}")
        else:
            self._out.write(f"{step_line(self._step, self._rate(), bar=False)}\n")
        self._out.flush()

    def _rate(self) -> float:
        spent_s = self._clock() - self._began
        return (self._step.completed - self._began_at) / spent_s if spent_s > 0 else 0.0


def step_line(step: Step, rate: float, *, bar: bool = True) -> str:
    """`copying ▕████    ▏  50%  49 MB/98 MB  120 MB/s  3 seconds`."""
    if not step.total:
        return step.status
    fraction = min(step.completed / step.total, 1.0)
    filled = "█" * int(fraction * BAR_COLUMNS)
    drawn = f"▕{filled:<{BAR_COLUMNS}}▏ " if bar else ""
    line = f"{step.status} {drawn}{fraction:4.0%}  {_count_text(step)}"
    if rate > 0 and fraction < 1:
        left_s = (step.total - step.completed) / rate
        line += f"{_rate_text(step, rate)}  {duration_text(left_s)}"
    return line + _all_text(step, rate)


def _all_text(step: Step, rate: float) -> str:
    """How far everything is, where this is one of several files."""
    if step.all_total <= step.total:
        return ""
    left_bytes = step.all_total - step.all_completed
    left = f", {duration_text(left_bytes / rate)}" if rate > 0 and left_bytes else ""
    return f"  (of {size_text(step.all_total)}: {step.all_completed / step.all_total:.0%}{left})"


def _count_text(step: Step) -> str:
    if step.unit:
        return f"{step.completed}/{step.total} {step.unit}"
    return f"{size_text(step.completed)}/{size_text(step.total)}"


def _rate_text(step: Step, rate: float) -> str:
    return "" if step.unit else f"  {size_text(rate)}/s"
