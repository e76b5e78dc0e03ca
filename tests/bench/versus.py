"""Who is measured against whom: the servers of every scenario, with the same model, threads,
context and number of slots, and otherwise as they come.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from qm.daemon.hardware import physical_cores

from . import added, connections, scenarios
from .added import outside_s
from .direct import direct, placed, started
from .report import LLAMA_SERVER, Row
from .scenarios import Figures
from .servers import llama_server, qm

Measure: TypeAlias = Callable[[int], Figures]
N_CTX = 4096  # tokens, of each slot that has a long prompt
_SHORT = 1024


@dataclass(frozen=True, slots=True)
class Bench:
    """What all scenarios need: the peer, the model and another one."""

    program: Path
    models: dict[str, Path]
    name: str
    runs: int

    @property
    def weights(self) -> Path:
        return self.models[self.name]

    @property
    def other_name(self) -> str:
        return next(name for name in self.models if name != self.name)

    def server(self, name: str, slots: int, n_ctx: int, *more: str) -> tuple[str, ...]:
        """Arguments of llama-server; `n_ctx` is of all slots together."""
        size = ("-np", str(slots), "-c", str(n_ctx), "-t", str(physical_cores()))
        return ("-m", str(self.models[name]), *size, *more)

    def pairs(self, what: str, ours: Measure, other: Measure, against: str) -> Iterator[Row]:
        """Both in turns, as many as asked for; who begins alternates."""
        found: list[tuple[Figures, Figures]] = []
        for turn in range(self.runs):
            began_s = time.monotonic()
            mine, theirs = (
                (ours(turn), other(turn)) if turn % 2 == 0 else _swapped(ours, other, turn)
            )
            found.append((mine, theirs))
            took = f"{time.monotonic() - began_s:.1f} s"
            _tell(f"{self.name}: {what}, pair {turn + 1} of {self.runs} in {took}")
        for figure in found[0][0].values:
            pairs = tuple((mine.values[figure], theirs.values[figure]) for mine, theirs in found)
            cut = any(mine.cut or theirs.cut for mine, theirs in found)
            yield Row(self.name, figure, against, pairs, cut)


def _swapped(ours: Measure, other: Measure, turn: int) -> tuple[Figures, Figures]:
    theirs = other(turn)
    return ours(turn), theirs


def throughput(bench: Bench) -> Iterator[Row]:
    settings = {"QM_NUM_PARALLEL": "8", "QM_CONTEXT_LENGTH": str(8 * _SHORT)}
    with (
        qm({bench.name: bench.weights}, **settings) as ours,
        llama_server(bench.program, *bench.server(bench.name, 8, 8 * _SHORT)) as theirs,
    ):
        scenarios.warm(ours)
        scenarios.warm(theirs)
        for clients in (1, 4, 8):
            yield from bench.pairs(
                f"{clients} at once",
                lambda turn, n=clients: scenarios.throughput(ours, turn, n),  # type: ignore[misc]
                lambda turn, n=clients: scenarios.throughput(theirs, turn, n),  # type: ignore[misc]
                LLAMA_SERVER,
            )


def gap(bench: Bench) -> Iterator[Row]:
    settings = {"QM_NUM_PARALLEL": "2", "QM_CONTEXT_LENGTH": str(2 * N_CTX)}
    with (
        qm({bench.name: bench.weights}, **settings) as ours,
        llama_server(bench.program, *bench.server(bench.name, 2, 2 * N_CTX)) as theirs,
    ):
        scenarios.warm(ours)
        scenarios.warm(theirs)
        yield from bench.pairs(
            "a long prompt",
            lambda turn: scenarios.long_prompt_beside_an_answer(ours, turn),
            lambda turn: scenarios.long_prompt_beside_an_answer(theirs, turn),
            LLAMA_SERVER,
        )


def burst(bench: Bench) -> Iterator[Row]:
    yield from _burst(bench)


def burst_kvu(bench: Bench) -> Iterator[Row]:
    yield from _burst(bench, "-kvu")


def _burst(bench: Bench, *more: str) -> Iterator[Row]:
    n_ctx = 8 * 2 * _SHORT
    settings = {"QM_NUM_PARALLEL": "8", "QM_CONTEXT_LENGTH": str(n_ctx)}
    with (
        qm({bench.name: bench.weights}, **settings) as ours,
        llama_server(bench.program, *bench.server(bench.name, 8, n_ctx, *more)) as theirs,
    ):
        scenarios.warm(ours)
        scenarios.warm(theirs)
        yield from bench.pairs(
            " ".join(("one prefix", *more)),
            lambda turn: scenarios.burst_with_one_prefix(ours, turn),
            lambda turn: scenarios.burst_with_one_prefix(theirs, turn),
            f"{LLAMA_SERVER} {' '.join(more)}".rstrip(),
        )


def swap(bench: Bench) -> Iterator[Row]:
    names = (bench.name, bench.other_name)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in names:
            (directory / f"{name}.gguf").symlink_to(bench.models[name])
        router = ("--models-dir", str(directory), "--models-max", "1")
        size = ("-np", "1", "-c", str(N_CTX), "-t", str(physical_cores()))
        settings = {"QM_MAX_LOADED_MODELS": "1", "QM_NUM_PARALLEL": "1"}
        ours = stack.enter_context(qm(bench.models, QM_CONTEXT_LENGTH=str(N_CTX), **settings))
        theirs = stack.enter_context(llama_server(bench.program, *router, *size))
        yield from bench.pairs(
            f"{names[0]} → {names[1]} → {names[0]}",
            lambda turn: scenarios.return_after_a_swap(ours, turn, *names),
            lambda turn: scenarios.return_after_a_swap(theirs, turn, *names),
            LLAMA_SERVER,
        )


def two(bench: Bench) -> Iterator[Row]:
    names = (bench.name, bench.other_name)
    with (
        qm(bench.models, QM_CONTEXT_LENGTH=str(_SHORT), QM_NUM_PARALLEL="1") as ours,
        llama_server(bench.program, *bench.server(names[0], 1, _SHORT)) as first,
        llama_server(bench.program, *bench.server(names[1], 1, _SHORT)) as second,
    ):
        scenarios.warm(ours, *names)
        scenarios.warm(first)
        scenarios.warm(second)
        yield from bench.pairs(
            "two models",
            lambda turn: scenarios.two_models((ours, names[0]), (ours, names[1]), turn),
            lambda turn: scenarios.two_models((first, ""), (second, ""), turn),
            "two llama-servers",
        )


def schema(bench: Bench) -> Iterator[Row]:
    with qm({bench.name: bench.weights}) as ours:
        scenarios.schema(ours, -1, constrained=True)  # compiles it
        yield from bench.pairs(
            "a schema",
            lambda turn: scenarios.schema(ours, turn, constrained=True),
            lambda turn: scenarios.schema(ours, turn, constrained=False),
            "qm without",
        )


def start(bench: Bench) -> Iterator[Row]:
    arguments = bench.server(bench.name, 4, N_CTX)

    async def our_start() -> float:
        with tempfile.TemporaryDirectory() as directory:
            began_s = time.perf_counter()
            runner = await started(bench.weights, placed(N_CTX, 4), Path(directory) / "log")
            took_s = time.perf_counter() - began_s
            await runner.close()
            return took_s

    def their_start(_turn: int) -> Figures:
        began_s = time.perf_counter()
        with llama_server(bench.program, *arguments):
            return Figures({"start to ready": time.perf_counter() - began_s})

    bench.weights.read_bytes()  # into the page cache
    yield from bench.pairs(
        "start",
        lambda _turn: Figures({"start to ready": asyncio.run(our_start())}),
        their_start,
        LLAMA_SERVER,
    )


def daemon(bench: Bench) -> Iterator[Row]:
    """What it adds to its runner, in every pair of requests."""
    with (
        qm({bench.name: bench.weights}, QM_CONTEXT_LENGTH=str(N_CTX)) as ours,
        direct(bench.weights, placed(N_CTX, 4)) as runner,
        added.pairs(ours, runner) as apis,
    ):
        scenarios.warm(ours)
        scenarios.warm(runner)
        for api, pair in apis.items():
            row = partial(Row, bench.name, against=added.ALONE, cut=False)
            firsts = [both for turn in range(bench.runs) for both in pair.first_tokens(turn)]
            whole = tuple((mine.first_s, theirs.first_s) for mine, theirs in firsts)
            yield row(figure=f"first token of {api}", pairs=whole)
            if all(mine.prompt_s for mine, _ in firsts):
                outside = tuple((outside_s(mine), outside_s(theirs)) for mine, theirs in firsts)
                yield row(figure=f"of that outside the runner, {api}", pairs=outside)
            streams = tuple(found for turn in range(bench.runs) for found in pair.streams(turn))
            yield row(figure=f"tokens/s of {api}", pairs=streams)


def connected(bench: Bench) -> Iterator[Row]:
    """What many open connections cost, beside what they may."""
    with qm({bench.name: bench.weights}, QM_NUM_PARALLEL="1") as ours:
        scenarios.warm(ours)
        for measure in (connections.waiting_streams, connections.idle_connections):
            for figure, mib in measure(ours).values.items():
                budget = connections.BUDGET_MIB
                yield Row(bench.name, figure, "the budget", ((mib, budget),), cut=False)


def leave(bench: Bench) -> Iterator[Row]:
    """How long clients of every dialect hold their slot after they left, in tokens."""
    with qm({bench.name: bench.weights}, QM_NUM_PARALLEL="1") as ours:
        scenarios.warm(ours)
        token_s = connections.token_s(ours)
        for stream in (True, False):
            found = [
                connections.leaving(ours, path, stream=stream)
                for path in connections.DIALECTS
                for _ in range(bench.runs)
            ]
            how = "a stream is left" if stream else "an answer is left"
            pairs = tuple((took_s, token_s) for took_s, _ in found)
            yield Row(bench.name, f"s until free, {how}", "a token", pairs, cut=False)
            if stream:
                pairs = tuple((float(tokens), 1.0) for _, tokens in found)
                yield Row(bench.name, "tokens for nobody", "one", pairs, cut=False)


SCENARIOS: dict[str, Callable[[Bench], Iterator[Row]]] = {  # the long ones last
    "start": start,
    "daemon": daemon,
    "leave": leave,
    "connections": connected,
    "schema": schema,
    "throughput": throughput,
    "two": two,
    "swap": swap,
    "gap": gap,
    "burst": burst,
    "burst-kvu": burst_kvu,
}


def _tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)
