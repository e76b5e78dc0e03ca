"""What a benchmark found: rows with their targets, printed as a table and written as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

LLAMA_SERVER = "llama-server"
_HEAD = ("", "qm", "other", "", "target")


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio, or a difference in seconds, has to reach."""

    limit: float
    at_least: bool = False
    difference: bool = False

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


TARGETS = {
    "tokens/s, 1 client": Target(1.0, at_least=True),
    "tokens/s, 4 clients": Target(1.0, at_least=True),
    "tokens/s, 8 clients": Target(1.0, at_least=True),
    "longest gap beside a long prompt": Target(0.05),
    "first token of that prompt": Target(1.3),
    "8 requests with one prefix": Target(0.2),
    "8 requests with one prefix, -kvu": Target(0.2),
    "first token after a swap": Target(0.08),
    "tokens/s, two models at once": Target(4.0, at_least=True),
    "s/token with a schema": Target(1.1),
    "start to ready": Target(1.0),
    "first token of /api/chat": Target(0.002, difference=True),
    "of that outside the runner, /api/chat": Target(0.002, difference=True),
    "first token of /v1": Target(0.002, difference=True),
    "tokens/s of /api/chat": Target(0.95, at_least=True),
    "tokens/s of /v1": Target(0.95, at_least=True),
    "MiB of 500 streams that wait": Target(1.0),
    "MiB of 500 idle connections": Target(1.0),
    "s until free, a stream is left": Target(1.0),
    "s until free, an answer is left": Target(1.0),
    "tokens for nobody": Target(1.0),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: ours and the other's in every pair, and the median of how they compare."""

    model: str
    figure: str
    against: str
    pairs: tuple[tuple[float, float], ...]
    cut: bool  # somebody took too long: the figure is a bound

    @property
    def target(self) -> Target | None:
        """What was promised; nothing about figures beside the table, against others."""
        return TARGETS.get(self.figure)

    @property
    def ours(self) -> float:
        return statistics.median(ours for ours, _ in self.pairs)

    @property
    def other(self) -> float:
        return statistics.median(other for _, other in self.pairs)

    @property
    def value(self) -> float:
        """The median of the ratios qm / other, or of the differences."""
        if self.target and self.target.difference:
            return statistics.median(ours - other for ours, other in self.pairs)
        return statistics.median(ours / other for ours, other in self.pairs)

    @property
    def reached(self) -> bool | None:
        return self.target.reached(self.value) if self.target else None

    def __str__(self) -> str:
        target = ""
        if self.target:
            target = f"{'≥' if self.target.at_least else '≤'} {self.target.limit:g}"
        verdict = {None: "", True: "reached", False: "NOT REACHED"}[self.reached]
        return _line(
            f"{self.model}: {self.figure}",
            *(f"{self.ours:.4g}", f"{self.other:.4g}{'+' if self.cut else ''}"),
            *(f"{self.value:.4f}" if target.endswith("0.002") else f"{self.value:.3f}", target),
            f"{verdict:<11} {'' if self.against == LLAMA_SERVER else 'against ' + self.against}",
        )

    def document(self) -> dict[str, object]:
        return asdict(self) | {
            "qm": self.ours,
            "other": self.other,
            "compared": "difference" if self.target and self.target.difference else "ratio",
            "value": self.value,
            "target": self.target.limit if self.target else None,
            "reached": self.reached,
        }


def table(rows: list[Row]) -> str:
    """All rows, a line each."""
    return "\n".join([_line(*_HEAD, ""), *map(str, rows)])


def write(path: Path, rows: list[Row], runs: int) -> None:
    """The same as JSON, with what was measured in every pair."""
    document = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "load_average": os.getloadavg()[0],
        "runs": runs,
        "rows": [row.document() for row in rows],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def _line(*cells: str) -> str:
    figure, ours, other, value, target, *rest = cells
    line = f"{figure:<42} {ours:>9} {other:>9} {value:>8} {target:>8} {' '.join(rest)}"
    return line.rstrip()
