"""The supervisor performs what the scheduler decides; its runners here are fakes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol, cast

import pytest
from qm.daemon.hardware import Machine
from qm.daemon.loaded import LoadBroken, LoadStalled
from qm.daemon.placing import DoesNotFit
from qm.daemon.refusals import QueueFull, ShuttingDown
from qm.daemon.runner.failures import RunnerFailed
from qm.daemon.runner.process import Runner
from qm.daemon.runner.wire import Load, Loaded, Options
from qm.daemon.settings import load_settings
from qm.daemon.spare import STILL_S
from qm.daemon.supervisor import Supervisor
from qm.daemon.ticket import Use
from qm.modelfiles.model import Model
from qm.store.gguf import Header, Tensor

LIMIT_S = 10.0
MIB = 1 << 20


class FakeRunner:
    """Loads when told to, and can fail, hang and die like a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.alive = True
        self.closed = False
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.failure: Exception | None = None
        self.loads: list[Load] = []
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def load(self, load: Load, on_progress: Callable[[float], None]) -> Loaded:
        self.loads.append(load)
        on_progress(0.5)
        await self.may_load.wait()
        if self.failure is not None:
            raise self.failure
        n_ctx, n_parallel = load.placement.n_ctx, load.placement.n_parallel
        return Loaded(0, n_ctx, 8192, n_parallel, 100, 8, "", "", False, True, True, False, "")

    def die(self) -> None:
        self.alive = False
        self.exited.set_result(-9)

    async def close(self) -> None:
        await self.may_close.wait()
        self.closed = True
        if not self.exited.done():
            self.die()


class Bench:
    """A supervisor on a machine of our choice, and the runners that it spawned."""

    def __init__(self, tmp_path: Path, **environ: str) -> None:
        (tmp_path / "qm.toml").touch()
        base = {"QM_CONFIG": str(tmp_path / "qm.toml"), "QM_HOME": str(tmp_path)}
        self.runners: list[FakeRunner] = []
        self.prepare: Callable[[FakeRunner], None] = lambda _runner: None
        self.available_bytes = 1000 * MIB
        self.supervisor = Supervisor(
            load_settings(base | environ), spawn=self.spawn, machine=self.machine
        )

    async def spawn(self, log_path: Path) -> Runner:
        runner = FakeRunner(pid=2**22 + len(self.runners) + 1)  # no process has such a pid
        self.prepare(runner)
        self.runners.append(runner)
        return cast("Runner", runner)

    def machine(self) -> Machine:
        return Machine(2000 * MIB, self.available_bytes, 4)


class Start(Protocol):
    """Starts a bench with these settings; it ends with the test."""

    def __call__(self, **environ: str) -> Awaitable[Bench]: ...


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts benches whose supervisors end with the test."""
    async with AsyncExitStack() as stack:

        async def begin(**environ: str) -> Bench:
            bench = Bench(tmp_path, **environ)
            await stack.enter_async_context(bench.supervisor.running())
            return bench

        yield begin


def model(name: str = "a", weights: str = "", size: int = 300 * MIB) -> Model:
    """What the supervisor looks at; no file is opened."""
    header = Header(3, {"general.architecture": "x"}, (_tensor(size),), 0, 32, size)
    return cast(
        "Model",
        SimpleNamespace(
            name=f"{name}:latest",
            digest=f"digest-{name}",
            weights=(Path(f"/{weights or name}"),),
            weights_digest=weights or name,
            adapters=(),
            projectors=(),
            draft=None,
            header=header,
            capabilities=("completion",),
        ),
    )


def _tensor(size: int) -> Tensor:
    return Tensor("blk.0", "I8", (size,), 0, size)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110  fakes set no events
            await asyncio.sleep(0)


class User:
    """Somebody who uses a model until told to let go."""

    def __init__(self, bench: Bench, which: Model, **wishes: object) -> None:
        self.got: asyncio.Future[Use] = asyncio.get_running_loop().create_future()
        self.let_go = asyncio.Event()
        self.task = asyncio.create_task(self._use(bench, which, wishes))

    async def _use(self, bench: Bench, which: Model, wishes: dict[str, object]) -> None:
        keep_alive_s = cast("float | None", wishes.pop("keep_alive_s", None))
        options = Options(**wishes)  # type: ignore[arg-type]  # the test names real options
        async with bench.supervisor.use(which, wishes=options, keep_alive_s=keep_alive_s) as use:
            self.got.set_result(use)
            await self.let_go.wait()

    async def leave(self) -> None:
        self.let_go.set()
        await self.task


async def test_a_model_is_loaded_into_the_warm_spare(start: Start) -> None:
    """The next spare is warmed once nobody uses a runner any more."""
    bench = await start()
    await until(lambda: len(bench.runners) == 1)
    user = User(bench, model())
    use = await user.got
    assert cast("FakeRunner", use.runner) is bench.runners[0]
    assert use.loaded.n_ctx == 4096
    assert use.load_ns > 0
    await asyncio.sleep(2 * STILL_S)
    assert len(bench.runners) == 1
    await user.leave()
    await until(lambda: len(bench.runners) == 2)


async def test_a_second_use_finds_it_loaded(start: Start) -> None:
    """One load for both."""
    bench = await start()
    first, second = User(bench, model()), User(bench, model())
    assert (await first.got).runner is (await second.got).runner
    assert sum(len(runner.loads) for runner in bench.runners) == 1
    await first.leave()
    await second.leave()


async def test_variants_that_share_their_files_share_a_runner(start: Start) -> None:
    """They differ only in what is asked of it; either name unloads it."""
    bench = await start()
    first, second = User(bench, model("a", "w")), User(bench, model("b", "w"))
    assert (await first.got).runner is (await second.got).runner
    assert [row.name for row in bench.supervisor.loaded()] == ["b:latest"]
    await first.leave()
    await second.leave()
    assert await bench.supervisor.unload("A:latest")
    assert bench.supervisor.loaded() == []


async def test_unload_returns_when_the_process_is_reaped(start: Start) -> None:
    """Not when it was asked to go."""
    bench = await start()
    user = User(bench, model())
    await user.got
    await user.leave()
    bench.runners[0].may_close.clear()
    unload = asyncio.create_task(bench.supervisor.unload("digest-a"))
    await until(lambda: bench.supervisor.loaded()[0].state == "unloading")
    assert not unload.done()
    bench.runners[0].may_close.set()
    assert await unload
    assert bench.runners[0].closed
    assert not await bench.supervisor.unload("a:latest")


async def test_keep_alive_counts_down_by_itself(start: Start) -> None:
    """The timer unloads it."""
    bench = await start(QM_KEEP_ALIVE="20ms")
    user = User(bench, model())
    await user.got
    await user.leave()
    await until(lambda: bench.supervisor.loaded() == [])
    assert bench.runners[0].closed


async def test_a_row_tells_what_is_loaded(start: Start) -> None:
    """For qm ps."""
    bench = await start()
    user = User(bench, model(), num_ctx=2048, keep_alive_s=math.inf)
    await user.got
    (row,) = bench.supervisor.loaded()
    assert (row.name, row.state, row.n_users) == ("a:latest", "ready", 1)
    assert row.context_length == 2048
    assert row.expires_at == math.inf
    assert row.pid == bench.runners[0].pid
    assert row.predicted_bytes == row.size_bytes == 302 * MIB
    assert "context 2048" in row.reason
    await user.leave()


async def test_a_slow_load_blocks_nobody_else(start: Start) -> None:
    """Answers of a loaded model go on while another loads."""
    bench = await start()
    first = User(bench, model("a"))
    await first.got
    bench.prepare = lambda runner: runner.may_load.clear()
    slow = User(bench, model("b"))
    await until(lambda: len(bench.runners) == 2 and bool(bench.runners[1].loads))
    again = User(bench, model("a"))
    await again.got
    assert not slow.got.done()
    bench.runners[1].may_load.set()
    await slow.got
    for user in (first, slow, again):
        await user.leave()


async def test_a_failed_load_is_the_error_of_all_who_wait(start: Start) -> None:
    """The next one tries anew."""
    bench = await start()
    await until(lambda: len(bench.runners) == 1)
    bench.runners[0].failure = RunnerFailed("it fell over")
    users = [User(bench, model()), User(bench, model())]
    for user in users:
        with pytest.raises(RunnerFailed, match="fell over"):
            await user.task
    await until(lambda: bench.runners[0].closed)
    again = User(bench, model())
    await again.got
    await again.leave()


async def test_an_unforeseen_fault_is_a_typed_error(start: Start) -> None:
    """The daemon goes on whatever happens in a load."""
    bench = await start()
    await until(lambda: len(bench.runners) == 1)
    bench.runners[0].failure = ZeroDivisionError("oops")
    with pytest.raises(LoadBroken, match="oops"):
        await User(bench, model()).task


async def test_a_load_that_stalls_is_given_up(start: Start) -> None:
    """And its process is reaped."""
    bench = await start(QM_LOAD_TIMEOUT="30ms")
    await until(lambda: len(bench.runners) == 1)
    bench.runners[0].may_load.clear()
    with pytest.raises(LoadStalled, match="QM_LOAD_TIMEOUT"):
        await User(bench, model()).task
    await until(lambda: bench.runners[0].closed)


async def test_a_dead_runner_is_replaced_for_the_next_one(start: Start) -> None:
    """Its user is told by the runner itself, and can leave as ever."""
    bench = await start()
    user = User(bench, model())
    await user.got
    bench.runners[0].die()
    await until(lambda: bench.runners[0].closed)
    other = User(bench, model())
    assert (await other.got).runner is not (await user.got).runner
    await user.leave()
    await other.leave()


async def test_a_dead_spare_is_not_used(start: Start) -> None:
    """It is reaped, and a new process is started."""
    bench = await start()
    await until(lambda: len(bench.runners) == 1)
    bench.runners[0].die()
    user = User(bench, model())
    assert (await user.got).runner is not cast("Runner", bench.runners[0])
    assert bench.runners[0].closed
    await user.leave()


async def test_who_hangs_up_while_waiting_leaves_the_queue(start: Start) -> None:
    """The slot goes to the next, and nothing is granted to the one who left."""
    bench = await start(QM_NUM_PARALLEL="1", QM_MAX_QUEUE="1")
    first = User(bench, model())
    await first.got
    second = User(bench, model())
    with pytest.raises(QueueFull):
        await User(bench, model()).task
    second.task.cancel()
    await asyncio.wait((second.task,))
    third = User(bench, model())
    await first.leave()
    await third.got
    await third.leave()


async def test_who_reads_on_lets_others_have_the_model(start: Start) -> None:
    """Once released the slot is the next one's, and the model may go; the end waits for readers."""
    bench = await start(QM_NUM_PARALLEL="1")
    reader, second = User(bench, model()), User(bench, model())
    (await reader.got).release()
    await second.got
    await second.leave()
    assert bench.supervisor.n_users == 0
    assert await bench.supervisor.unload("a:latest")
    drained = asyncio.create_task(bench.supervisor.drained())
    await asyncio.sleep(0)
    assert not drained.done()
    await reader.leave()
    await drained


async def test_who_hangs_up_during_a_load_leaves_a_usable_model(start: Start) -> None:
    """The load goes on; the model stays for its keep_alive."""
    bench = await start()
    await until(lambda: len(bench.runners) == 1)
    bench.runners[0].may_load.clear()
    user = User(bench, model())
    await until(lambda: bool(bench.runners[0].loads))
    user.task.cancel()
    await asyncio.wait((user.task,))
    bench.runners[0].may_load.set()
    await until(lambda: bench.supervisor.loaded()[0].state == "ready")


async def test_memory_decides_what_stays(start: Start) -> None:
    """The least recently used goes; its memory counts again once it is reaped."""
    bench = await start()
    for name in ("a", "b"):
        user = User(bench, model(name, size=400 * MIB))
        await user.got
        await user.leave()
    user = User(bench, model("c", size=400 * MIB))
    await user.got
    assert sorted(row.name for row in bench.supervisor.loaded()) == ["b:latest", "c:latest"]
    await user.leave()


async def test_a_model_that_never_fits_is_refused_before_anything_happens(start: Start) -> None:
    """Nobody is unloaded for it."""
    bench = await start(QM_MEMORY_LIMIT="200MiB")
    with pytest.raises(DoesNotFit, match="200 MiB are available"):
        await User(bench, model()).task
    assert bench.supervisor.loaded() == []


async def test_shutdown_refuses_and_reaps_everything(start: Start) -> None:
    """The ones at work and those that load."""
    bench = await start()
    user = User(bench, model("a"))
    await user.got
    bench.prepare = lambda runner: runner.may_load.clear()
    waiting = User(bench, model("b"))
    await until(lambda: len(bench.runners) == 2 and bool(bench.runners[1].loads))
    bench.supervisor.refuse()
    with pytest.raises(ShuttingDown):
        await waiting.task
    with pytest.raises(ShuttingDown):
        await User(bench, model("a")).task
    drained = asyncio.create_task(bench.supervisor.drained())
    await asyncio.sleep(0)
    assert not drained.done()
    await user.leave()
    await drained
    await bench.supervisor.shutdown()
    assert all(runner.closed for runner in bench.runners)
    assert bench.supervisor.loaded() == []
