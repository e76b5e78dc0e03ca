"""Real loads that run out of memory, by a limit that the kernel enforces on the runner."""

from __future__ import annotations

import asyncio
import re
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from qm.daemon import residents
from qm.daemon.hardware import Machine
from qm.daemon.loader import LoadGivenUp
from qm.daemon.runner.process import Runner
from qm.daemon.runner.wire import Load, Options, Placement
from qm.daemon.settings import load_settings
from qm.daemon.supervisor import Supervisor
from qm.modelfiles.model import Model
from qm.store.gguf import read_header
from qm.store.name import Name

MIB = 1 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits another process: prlimit")


def data_bytes(pid: int) -> int:
    """What counts against the kernel's limit of a process's data."""
    (line,) = re.findall(r"VmData:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(line) * 1024


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine here tells always the same: waiting for memory to be back would be in vain."""
    monkeypatch.setattr(residents, "_BACK_LIMIT_S", 0.0)


async def growth_bytes(tmp_path: Path, weights: Path) -> int:
    """How much data a whole load takes."""
    runner = await Runner.spawn(tmp_path / "free.log")
    before = data_bytes(runner.pid)
    placement = Placement(n_ctx=8192, n_parallel=4, n_threads=1)
    await runner.load(Load(1, (str(weights),), placement))
    grown = data_bytes(runner.pid) - before
    await runner.close()
    return grown


@asynccontextmanager
async def limited(tmp_path: Path, more_bytes: int) -> AsyncIterator[Supervisor]:
    """A supervisor whose runners can't grow by more than `more_bytes`."""

    async def spawn(log_path: Path) -> Runner:
        runner = await Runner.spawn(log_path)
        most = data_bytes(runner.pid) + more_bytes
        resource.prlimit(runner.pid, resource.RLIMIT_DATA, (most, most))
        return runner

    (tmp_path / "qm.toml").touch()
    settings = load_settings({"QM_HOME": str(tmp_path), "QM_CONFIG": str(tmp_path / "qm.toml")})
    one = Supervisor(settings, spawn=spawn, machine=lambda: Machine(8192 * MIB, 4096 * MIB, 1))
    async with one.running() as supervisor:
        yield supervisor


def smollm2(weights: Path) -> Model:
    """What the supervisor looks at."""
    return cast(
        "Model",
        SimpleNamespace(
            name=Name.parse("smollm2"),
            digest="sha256:" + "0" * 64,
            weights=(weights,),
            weights_digest="sha256:" + "0" * 64,
            projectors=(),
            adapters=(),
            draft=None,
            header=read_header(weights),
            capabilities=("completion",),
        ),
    )


async def test_a_load_that_runs_out_of_memory_is_tried_smaller(
    tmp_path: Path, smollm2_gguf: Path
) -> None:
    """With less context, since nobody named one; the row tells what was changed."""
    whole = await growth_bytes(tmp_path, smollm2_gguf)
    async with (
        asyncio.timeout(120),
        limited(tmp_path, whole - 90 * MIB) as supervisor,
        supervisor.use(smollm2(smollm2_gguf), wishes=Options(num_thread=1)) as use,
    ):
        assert 512 <= use.placement.n_ctx < 8192
        (row,) = supervisor.loaded()
        assert "context 8192 failed" in row.reason
        assert f"context {use.placement.n_ctx} was tried instead" in row.reason


async def test_a_load_that_never_fits_is_reported_with_all_that_was_tried(
    tmp_path: Path, smollm2_gguf: Path
) -> None:
    """And nothing of it stays."""
    async with asyncio.timeout(120), limited(tmp_path, 40 * MIB) as supervisor:
        with pytest.raises(LoadGivenUp) as caught:
            async with supervisor.use(smollm2(smollm2_gguf), wishes=Options(num_thread=1)):
                pass
        assert str(caught.value).count("was tried instead") >= 2
        while supervisor.loaded():  # noqa: ASYNC110  the ended runner sets no event
            await asyncio.sleep(0.01)
