"""How fast qm serves, as ratios with llama-server in the same run, on the same model and threads.

    make bench                          every scenario with both models, five pairs each
    make bench-quick                    one pair each, in less than ten minutes
    python -m tests.bench.serving --runs 1 --model smollm2 gap burst

Prints a table and writes the same as JSON. Each pair measures both servers one after the other;
what counts is the median of the pairs' ratios, since the machine's own speed drifts.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from . import models, peer, report, servers
from .report import Row
from .versus import SCENARIOS, Bench

QUICK_MINUTES = 7.0  # what was begun by then is over before ten


def main() -> int:
    """Measures, prints, writes; the exit status tells whether every target was reached."""
    signal.signal(signal.SIGTERM, _leave)
    found = {"smollm2": models.smollm2, "gemma3": models.gemma3}
    asked = _asked(list(found))
    weights = {name: find() for name, find in found.items()}
    program = peer.llama_server()
    benches = [Bench(program, weights, name, asked.runs) for name in asked.model or weights]
    rows: list[Row] = []
    try:
        for row in _measured(benches, asked.scenario or list(SCENARIOS), 60 * asked.minutes):
            rows.append(row)  # noqa: PERF402  those of a run that is interrupted count, too
    finally:
        print(report.table(rows))
        report.write(asked.json, rows, asked.runs)
    return int(any(row.reached is False for row in rows))


def _asked(known: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--model", action="append", choices=known, help="default: each")
    parser.add_argument("--runs", type=int, default=5, help="pairs to measure")
    parser.add_argument("--minutes", type=float, default=math.inf, help="to begin scenarios in")
    parser.add_argument("--quick", action="store_true", help="as --runs 1 --minutes 7")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where it is written")
    asked = parser.parse_args()
    if unknown := set(asked.scenario) - set(SCENARIOS):
        parser.error(f"unknown scenario {min(unknown)}")
    if asked.quick:
        asked.runs, asked.minutes = 1, QUICK_MINUTES
    return asked


def _measured(benches: list[Bench], names: list[str], limit_s: float) -> Iterator[Row]:
    began_s = time.monotonic()
    for name in names:
        for bench in benches:
            if time.monotonic() - began_s > limit_s:
                print(f"left out for want of time: {bench.name} {name}", file=sys.stderr)
                continue
            for row in SCENARIOS[name](bench):
                print(row, file=sys.stderr, flush=True)
                yield row


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    servers.end_all()
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
