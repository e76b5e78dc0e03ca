"""Conversations outlive an unload, and nothing that is wrong with a file changes an answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from qm.daemon.runner import wire
from qm.daemon.runner.process import Runner, collect
from qm.daemon.runner.snapshots import Snapshots
from qm.modelfiles.binding import binding_version

from .conftest import greedy
from .reference import answer, assert_same, reference
from .tiny_models import write_tiny_model

PLACEMENT = wire.Placement(n_ctx=1024, n_batch=256, n_ubatch=256, n_parallel=2, n_threads=1)
STORY = "A kettle sang in the kitchen while the snow covered the garden outside. " * 6
MIB = 1 << 20


def order(model: Path, directory: Path, **changes: object) -> wire.Load:
    load = wire.Load(
        0,
        (str(model),),
        PLACEMENT,
        kv_directory=str(directory),
        kv_budget_bytes=100 * MIB,
        model_digest="sha256:1",
    )
    return msgspec.structs.replace(load, **changes)


@pytest.fixture
def kv(tmp_path: Path) -> Path:
    directory = tmp_path / "kv"
    directory.mkdir()
    return directory


async def answers(load: wire.Load, log: Path, *prompts: str) -> list[tuple[str, wire.Done]]:
    """What a runner says that is started for these prompts, and unloaded after them."""
    runner = await Runner.spawn(log)
    try:
        await runner.load(load)
        return [await collect(runner.generate(greedy(prompt, 6))) for prompt in prompts]
    finally:
        await runner.close()


async def test_a_conversation_goes_on_after_a_reload(
    smollm2_gguf: Path, tmp_path: Path, kv: Path
) -> None:
    """Nothing of it is evaluated again, and the answer is the same."""
    load = order(smollm2_gguf, kv)
    [(said, before)] = await answers(load, tmp_path / "log", STORY)
    assert before.cached_tokens == 0
    follow = STORY + said + " What then?"
    (again, warm), (_, followed) = await answers(load, tmp_path / "log", STORY, follow)
    assert again == said
    assert warm.cached_tokens == warm.prompt_tokens - 1
    assert followed.cached_tokens >= warm.prompt_tokens
    assert len(files(kv)) == 1


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
async def test_a_conversation_goes_on_from_any_beginning(
    tmp_path: Path, kv: Path, kind: str
) -> None:
    """After a reload, too, and before a sliding window: another turn, or another last answer."""
    model = await asyncio.to_thread(write_tiny_model, tmp_path / "model.gguf", kind)
    load, talk = order(model, kv), (1, *(40 + 7 * at % 240 for at in range(150)))
    prompts = [(*talk[:70], 60, 61), (*talk, 60, 61)]
    expected = await asyncio.to_thread(reference, model, prompts, 6)
    for prompt, one in zip([talk, *prompts], [None, *expected], strict=True):
        runner = await Runner.spawn(tmp_path / "log")
        try:
            await runner.load(load)
            said, done = await answer(runner, prompt, 6)
        finally:
            await runner.close()
        if one is not None:
            assert_same(said, one, rounding=0.01)
            assert done.cached_tokens == len(prompt) - 2


def files(directory: Path) -> list[Path]:
    return list(directory.glob("*.kv"))


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: flip(data, len(data) // 2), id="a flipped bit"),
        pytest.param(lambda data: flip(data, 20), id="a wrong digest"),
        pytest.param(lambda data: data[: len(data) // 2], id="cut short"),
        pytest.param(lambda data: data[:30], id="cut in the head"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda data: b"someone else's" + data, id="foreign"),
    ],
)
@pytest.mark.parametrize("ahead", [False, True])
def test_a_damaged_snapshot_is_dropped(
    kv: Path, damage: Callable[[bytes], bytes], *, ahead: bool
) -> None:
    """At the latest when it is read; the file is gone then."""
    load = order(Path("/x"), kv)
    Snapshots(kv, load, "1").save([1] * 100, b"state" * 1000)
    [path] = files(kv)
    path.write_bytes(damage(path.read_bytes()))
    kept = Snapshots(kv, load, "1")
    if ahead:
        kept.read_ahead()
    found = kept.best([1] * 100, 0)
    assert found is None or kept.read(found) is None
    assert kept.best([1] * 100, 0) is None
    assert files(kv) == []


def test_the_last_one_used_is_read_ahead(kv: Path) -> None:
    """Whoever asks for it first needs no disk any more; whoever asks for another reads that."""
    load = order(Path("/x"), kv)
    before = Snapshots(kv, load, "1")
    before.save([1] * 100, b"first")
    [first] = files(kv)
    before.save([2] * 100, b"second")
    [second] = [path for path in files(kv) if path != first]
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    kept = Snapshots(kv, load, "1")
    kept.read_ahead()
    deadline = time.monotonic() + 60
    while second.stat().st_mtime == 2:  # read files count as used
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second.write_bytes(b"gone")
    found = [kept.best([at] * 100, 0) for at in (2, 1)]
    assert [bytes(kept.read(one) or b"") for one in found if one] == [b"second", b"first"]


def test_other_conditions_find_nothing(kv: Path) -> None:
    """Other weights, another context, type of cache or llama.cpp: not the same state."""
    load = order(Path("/x"), kv)
    Snapshots(kv, load, "1").save([1] * 100, b"state")
    q8 = msgspec.structs.replace(PLACEMENT, kv_type="q8_0")
    short = msgspec.structs.replace(PLACEMENT, n_ctx=512)
    for other in (
        order(Path("/x"), kv, model_digest="sha256:2"),
        order(Path("/x"), kv, placement=q8),
        order(Path("/x"), kv, placement=short),
        order(Path("/x"), kv, adapters=("/lora",)),
    ):
        assert Snapshots(kv, other, "1").best([1] * 100, 0) is None
    assert Snapshots(kv, load, "2").best([1] * 100, 0) is None
    assert Snapshots(kv, load, "1").best([1] * 100, 0) is not None


def test_what_is_stored_only_in_part_is_found_only_as_a_whole(kv: Path) -> None:
    """As that of a recurrent state: nothing can branch off before its end."""
    kept = Snapshots(kv, order(Path("/x"), kv), "1")
    kept.save([1] * 200, b"state")
    assert kept.best([1] * 150, 0, lambda _: 0) is not None
    assert kept.best([1] * 150, 0, lambda length: length) is None
    assert kept.best([1] * 201, 0, lambda length: length) is not None


async def test_no_budget_keeps_nothing(smollm2_gguf: Path, tmp_path: Path, kv: Path) -> None:
    """0 turns it off; one that is too large for the budget isn't kept either."""
    await answers(order(smollm2_gguf, kv, kv_budget_bytes=0), tmp_path / "log", STORY)
    assert files(kv) == []
    small = order(Path("/x"), kv, kv_budget_bytes=100)
    Snapshots(kv, small, "1").save([1] * 100, b"state" * 100)
    assert files(kv) == []


def test_the_longest_unused_makes_room(kv: Path) -> None:
    """The budget holds for all models together."""
    load = order(Path("/x"), kv, kv_budget_bytes=3800)
    mine = Snapshots(kv, load, "1")
    others = Snapshots(kv, msgspec.structs.replace(load, model_digest="sha256:2"), "1")
    mine.save([1] * 100, b"a" * 300)
    others.save([2] * 100, b"b" * 300)
    mine.save([3] * 100, b"c" * 300)
    assert len(list(kv.iterdir())) == 3
    found = mine.best([1] * 100, 0)
    assert found is not None
    assert bytes(mine.read(found) or b"") == b"a" * 300
    mine.save([4] * 100, b"d" * 300)
    left = Snapshots(kv, load, "1")
    assert left.best([1] * 100, 0) is not None
    assert Snapshots(kv, others_load(load), "1").best([2] * 100, 0) is None
    assert sum(path.stat().st_size for path in kv.iterdir()) <= 3800


def others_load(load: wire.Load) -> wire.Load:
    return msgspec.structs.replace(load, model_digest="sha256:2")


def test_a_longer_conversation_replaces_what_it_continues(kv: Path) -> None:
    """One file a conversation, not one a turn."""
    kept = Snapshots(kv, order(Path("/x"), kv), "1")
    kept.save([1] * 100, b"a")
    kept.save([1] * 150, b"b")
    assert len(list(kv.iterdir())) == 1
    assert kept.has([1] * 120)
    assert not kept.has([1] * 151)


async def test_a_snapshot_that_llama_cpp_refuses_is_dropped(tmp_path: Path, kv: Path) -> None:
    """Whole and ours, but its state is nonsense: evaluated as if there were none.

    So is the beginning that the cache had, in the slot that the snapshot should have come to.
    """
    model = await asyncio.to_thread(write_tiny_model, tmp_path / "model.gguf", "llama")
    alone = msgspec.structs.replace(PLACEMENT, n_parallel=1, n_spare=0)
    load, talk = order(model, kv, placement=alone), (1, *range(3, 103))
    Snapshots(kv, load, binding_version()).save([*talk, 0], b"nonsense" * 1000)
    assert len(files(kv)) == 1
    [expected] = await asyncio.to_thread(reference, model, [talk], 6)
    runner = await Runner.spawn(tmp_path / "log")
    try:
        await runner.load(load)
        await answer(runner, talk[:20], 1)
        ours, done = await answer(runner, talk, 6)
    finally:
        await runner.close()
    assert_same(ours, expected, rounding=0.01)
    assert done.cached_tokens == 0


async def test_nobody_waits_for_a_slow_disk_but_who_needs_it(tmp_path: Path, kv: Path) -> None:
    """While a conversation is read others are answered; when it can't be, it is evaluated."""
    model = await asyncio.to_thread(write_tiny_model, tmp_path / "model.gguf", "llama")
    load, talk = order(model, kv), (1, *range(3, 103))
    runner = await Runner.spawn(tmp_path / "log")
    await runner.load(load)
    said, _ = await answer(runner, talk, 4)
    await runner.close()
    [path] = files(kv)
    os.utime(path, (1, 1))
    Snapshots(kv, load, binding_version()).save([9] * 100, b"of no use")  # is read ahead
    runner = await Runner.spawn(tmp_path / "log")
    try:
        await runner.load(load)
        await runner.ping()  # it knows by now what is there
        path.unlink()
        os.mkfifo(path)  # whoever opens it waits for a writer
        waiting = [asyncio.create_task(answer(runner, talk, 4)) for _ in range(2)]
        for _ in range(3):
            await answer(runner, (1, 7, 8), 4)
        assert not any(task.done() for task in waiting)
        os.close(await asyncio.to_thread(os.open, path, os.O_WRONLY))
        for again, done in await asyncio.gather(*waiting):
            assert again.tokens == said.tokens
            assert done.prompt_tokens == len(talk)
        assert path not in files(kv)
    finally:
        await runner.close()
