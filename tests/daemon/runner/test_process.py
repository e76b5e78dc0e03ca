"""A runner as a process: it starts light, dies cleanly, and its death is told as what it was."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from qm.daemon.devices import RemoteDevice
from qm.daemon.runner import inbox, process, wire
from qm.daemon.runner.failures import AnswerNotRead, LoadFailed, RunnerCrashed, RunnerFailed
from qm.daemon.runner.process import Runner, collect

from .conftest import PLACEMENT, chat, greedy, started, until_idle
from .tiny_models import write_tiny_model

ENDLESS = greedy(chat("Why?"), -1, options={"ignore_eos": True})


def gone(pid: int) -> bool:
    """Whether no process `pid` is left, not even an unreaped one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def first_chunk(runner: Runner, begun: asyncio.Event) -> None:
    async for event in runner.generate(ENDLESS):
        if isinstance(event, wire.Chunk):
            begun.set()


async def test_a_spare_is_light_and_idle(tmp_path: Path) -> None:
    """Under 50 MiB, no CPU time while it waits, and gone after close."""
    runner = await Runner.spawn(tmp_path / "log")
    assert runner.alive
    assert 0 < runner.rss_bytes() < 50 * 2**20
    assert (await runner.ping()).active == 0
    await runner.close()
    await runner.close()
    assert await runner.exited == 0
    assert gone(runner.pid)
    assert not runner.alive
    assert runner.rss_bytes() == 0


async def test_loading_tells_its_progress(smollm2_gguf: Path, tmp_path: Path) -> None:
    """Fractions rise to 1; the answer describes the model and its memory."""
    runner = await Runner.spawn(tmp_path / "log")
    seen: list[float] = []
    loaded = await runner.load(wire.Load(0, (str(smollm2_gguf),), PLACEMENT), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert (loaded.n_ctx, loaded.n_ctx_train, loaded.n_vocab) == (1024, 8192, 49152)
    assert (loaded.bos, loaded.eos, loaded.pooling) == ("<|im_start|>", "<|im_end|>", "none")
    kv = sum(device.kv_bytes for device in loaded.memory)
    assert kv == 1024 * 30 * 2 * 192 * 2  # cells, layers, K and V, width, f16
    assert sum(device.weights_bytes for device in loaded.memory) > 90e6
    again = wire.Load(0, (str(smollm2_gguf),), PLACEMENT)
    with pytest.raises(LoadFailed, match="already"):
        await runner.load(again)
    await runner.close()


@pytest.mark.parametrize("damage", ["missing", "cut short", "no gguf"])
async def test_a_bad_file_fails_to_load_with_a_reason(
    smollm2_gguf: Path, tmp_path: Path, damage: str
) -> None:
    """A typed error, and a process that is gone."""
    path = tmp_path / "model.gguf"
    if damage == "cut short":
        beginning = await asyncio.to_thread(smollm2_gguf.read_bytes)
        await asyncio.to_thread(path.write_bytes, beginning[:5_000_000])
    elif damage == "no gguf":
        await asyncio.to_thread(path.write_bytes, b"not a model at all" * 100)
    runner = await Runner.spawn(tmp_path / "log")
    with pytest.raises(LoadFailed, match=r"llama\.cpp can't load the model: \S") as failed:
        await runner.load(wire.Load(0, (str(path),), PLACEMENT))
    assert failed.value.reason == "load_failed"
    assert await asyncio.wait_for(runner.exited, 10) == 0
    await runner.close()
    assert gone(runner.pid)


async def test_a_model_that_pairs_encoder_and_decoder_is_refused(tmp_path: Path) -> None:
    """In words: llama.cpp would abort at its first token."""
    model = await asyncio.to_thread(write_tiny_model, tmp_path / "model.gguf", "t5")
    runner = await Runner.spawn(tmp_path / "log")
    with pytest.raises(LoadFailed, match="pairs an encoder with a decoder"):
        await runner.load(wire.Load(0, (str(model),), PLACEMENT))
    await runner.close()


GONE = RemoteDevice("RPC0", "127.0.0.1:1", "RPC0[127.0.0.1:1]")


async def test_a_placement_that_makes_no_sense_fails_to_load(
    smollm2_gguf: Path, tmp_path: Path
) -> None:
    """Unknown devices and cache types are named."""
    for placement, word in (
        (wire.Placement(n_ctx=256, kv_type="q9_9"), "q9_9"),
        (wire.Placement(n_ctx=256, devices=("CUDA77",)), "CUDA77"),
        (wire.Placement(n_ctx=256, remotes=(GONE,)), "the worker 127.0.0.1:1"),
    ):
        runner = await Runner.spawn(tmp_path / "log")
        with pytest.raises(LoadFailed, match=word):
            await runner.load(wire.Load(0, (str(smollm2_gguf),), placement))
        await runner.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
async def test_a_crash_reaches_everyone_who_waits(
    smollm2_gguf: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Each request gets RunnerCrashed with the signal's name; so does whoever asks later."""
    runner = await started(smollm2_gguf, tmp_path / "log")
    begun = asyncio.Event()
    answer = asyncio.create_task(first_chunk(runner, begun))
    await asyncio.wait_for(begun.wait(), 60)
    os.kill(runner.pid, number)
    with pytest.raises(RunnerCrashed, match=number.name):
        await asyncio.wait_for(answer, 10)
    with pytest.raises(RunnerCrashed):
        await runner.tokenize("x")
    assert await runner.exited == -number
    assert not runner.alive
    await runner.close()
    assert gone(runner.pid)


async def test_a_stopped_runner_is_noticed_and_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP: a ping fails within its limit, and close still ends the process."""
    monkeypatch.setattr(process, "EXIT_LIMIT_S", 0.2)
    monkeypatch.setattr(process, "TERMINATE_LIMIT_S", 0.2)
    runner = await Runner.spawn(tmp_path / "log")
    os.kill(runner.pid, signal.SIGSTOP)
    with pytest.raises(RunnerFailed, match="no answer"):
        await runner.ping(limit_s=0.1)
    await runner.close()
    assert gone(runner.pid)


async def test_closing_in_the_middle_of_an_answer(smollm2_gguf: Path, tmp_path: Path) -> None:
    """The request ends, the process too, within the polite limit."""
    runner = await started(smollm2_gguf, tmp_path / "log")
    begun = asyncio.Event()
    answer = asyncio.create_task(first_chunk(runner, begun))
    await asyncio.wait_for(begun.wait(), 60)
    await runner.close()
    await asyncio.wait({answer}, timeout=10)
    assert answer.done()
    assert await runner.exited == 0


async def test_closing_in_the_middle_of_a_load(smollm2_gguf: Path, tmp_path: Path) -> None:
    """Whether the load was under way, done or not begun: no process is left."""
    runner = await Runner.spawn(tmp_path / "log")
    load = asyncio.create_task(runner.load(wire.Load(0, (str(smollm2_gguf),), PLACEMENT)))
    await asyncio.sleep(0)
    await runner.close()
    await asyncio.wait({load}, timeout=10)
    assert load.done()
    load.exception()
    assert gone(runner.pid)


async def test_a_slow_reader_is_cut_and_others_go_on(
    smollm2_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that nobody takes don't pile up for ever."""
    runner = await started(smollm2_gguf, tmp_path / "log")
    monkeypatch.setattr(inbox, "UNREAD_LIMIT", 8)
    over = asyncio.Event()
    stream = runner.generate(ENDLESS, over.set)
    await anext(stream)
    await until_idle(runner)
    assert over.is_set()
    with pytest.raises(AnswerNotRead):
        async for _ in stream:
            pass
    assert (await collect(runner.generate(greedy("Hi", 2))))[1].generated_tokens == 2
    await runner.close()


async def test_an_answer_is_over_before_it_is_read(smollm2_gguf: Path, tmp_path: Path) -> None:
    """Nobody waits for the child any more, which may even end; what it said is read as it was."""
    runner = await started(smollm2_gguf, tmp_path / "log")
    over = asyncio.Event()
    stream = runner.generate(greedy(chat("Why?"), 5, options={"ignore_eos": True}), over.set)
    assert isinstance(await anext(stream), wire.Evaluated)
    async with asyncio.timeout(60):
        await over.wait()
    assert not runner.busy
    await runner.close()
    assert (await collect(stream))[1].generated_tokens == 5


_DAEMON = """
import asyncio, os, sys
from pathlib import Path
from qm.daemon.runner.process import Runner
async def main():
    runner = await Runner.spawn(Path(sys.argv[1]))
    print(runner.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_a_runner_dies_with_its_daemon(tmp_path: Path) -> None:
    """kill -9 of the daemon leaves no runner behind."""
    command = [sys.executable, "-c", _DAEMON, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        assert not gone(pid)
        daemon.kill()
    deadline = time.monotonic() + 10
    while not dead(pid):
        assert time.monotonic() < deadline, "the runner outlived its daemon"
        time.sleep(0.01)


def dead(pid: int) -> bool:
    """Gone, or a zombie that only waits for a careless init to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_binding_comes_without_its_package() -> None:
    """Importing our llama module brings in neither numpy nor the binding's own package."""
    code = (
        "import sys; from qm.daemon.runner import engine, llama;"
        "assert 'numpy' not in sys.modules; assert 'llama_cpp.llama' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_parameter_name_is_an_error() -> None:
    """ctypes would swallow it (`use_mmap` vanished between two versions)."""
    code = (
        "from qm.modelfiles.native import C, fill\n"
        "try: fill(C.llama_model_default_params(), {'use_mmap': True})\n"
        "except AttributeError: raise SystemExit(0)\n"
        "raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
