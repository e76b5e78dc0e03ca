"""Images and sounds reach the model through its projector, and the cache knows them again."""

from __future__ import annotations

import asyncio
import io
import math
import struct
import wave
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import numpy as np
import pytest
import pytest_asyncio
from qm.daemon.runner import wire
from qm.daemon.runner.failures import LoadFailed, NotSupported, RequestRefused
from qm.daemon.runner.process import Runner, collect

from ...modelfiles.build.tiny_llama import write_tiny_llama
from .conftest import greedy
from .tiny_projector import SOUND_TOKENS, TOKENS, write_tiny_ears, write_tiny_projector

pytestmark = pytest.mark.asyncio(loop_scope="module")
PLACEMENT = wire.Placement(n_ctx=512, n_batch=64, n_ubatch=64, n_parallel=2, n_threads=1)
MARK = "<here>"
RATE = 16_000  # samples a second


def png(red: int, green: int, blue: int) -> bytes:
    """A picture of one colour."""
    rows = (b"\0" + bytes((red, green, blue)) * 8) * 8

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


RED, BLUE = png(255, 0, 0), png(0, 0, 255)


def tone(hertz: int, seconds: float = 0.5) -> bytes:
    """A WAV file with a sine."""
    waves = (math.sin(at * hertz * math.tau / RATE) for at in range(int(RATE * seconds)))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, RATE, 0, "NONE", ""))
        sound.writeframes(b"".join(struct.pack("<h", int(20_000 * height)) for height in waves))
    return file.getvalue()


LOW, HIGH = tone(220), tone(1760)


async def seeing(folder: Path, projector: Path) -> Runner:
    """A runner with the tiny llama and a projector."""
    model = folder / "model.gguf"
    await asyncio.to_thread(write_tiny_llama, model, np.float32)
    runner = await Runner.spawn(folder / "log")
    try:
        await runner.load(wire.Load(0, (str(model),), PLACEMENT, projector=str(projector)))
    except BaseException:
        await runner.close()
        raise
    return runner


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def eyes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runner]:
    folder = tmp_path_factory.mktemp("eyes")
    await asyncio.to_thread(write_tiny_projector, folder / "projector.gguf")
    runner = await seeing(folder, folder / "projector.gguf")
    yield runner
    await runner.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ears(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runner]:
    folder = tmp_path_factory.mktemp("ears")
    await asyncio.to_thread(write_tiny_ears, folder / "projector.gguf")
    runner = await seeing(folder, folder / "projector.gguf")
    yield runner
    await runner.close()


def shown(*images: bytes, prompt: str = f"Look: {MARK} What is it?") -> wire.Generate:
    options = {"ignore_eos": True}
    return greedy(prompt, 12, images=images, image_marker=MARK, options=options)


async def answer(runner: Runner, request: wire.Generate) -> tuple[str, wire.Done]:
    return await collect(runner.generate(request))


async def test_what_is_in_an_image_changes_the_answer(eyes: Runner) -> None:
    """The same image again gives the same answer, from the cache."""
    red, first = await answer(eyes, shown(RED))
    blue, _ = await answer(eyes, shown(BLUE))
    again, done = await answer(eyes, shown(RED))
    assert red != blue
    assert again == red
    text = await eyes.tokenize("Look:  What is it?")
    assert first.prompt_tokens == len(text) + TOKENS
    assert done.cached_tokens == done.prompt_tokens - 1


async def test_images_beside_each_other_and_beside_text(eyes: Runner) -> None:
    """Order matters; answers that run together don't disturb each other."""
    both = f"{MARK} then {MARK}."
    alone = [await answer(eyes, shown(*pair, prompt=both)) for pair in ((RED, BLUE), (BLUE, RED))]
    assert alone[0][0] != alone[1][0]
    together = await asyncio.gather(
        answer(eyes, shown(RED, BLUE, prompt=both)), answer(eyes, greedy("Just text", 12))
    )
    assert together[0][0] == alone[0][0]
    new = [f"{number} {both}" for number in range(2)]  # whose images are due in the same step
    told = await asyncio.gather(*(answer(eyes, shown(RED, BLUE, prompt=one)) for one in new))
    assert [done.generated_tokens for _, done in told] == [12, 12]


async def test_a_prompt_without_marks_has_its_images_first(eyes: Runner) -> None:
    raw = greedy("What?", 4, images=(RED,), options={"ignore_eos": True})
    assert (await answer(eyes, raw))[1].prompt_tokens > TOKENS


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (shown(b"no image at all"), "image 1 can't be read"),
        (shown(RED[:40]), "image 1 can't be read"),
        (shown(RED, BLUE), "no place for 2 images"),
        (shown(RED, prompt=MARK + "long " * 600), "the context holds"),
    ],
)
async def test_what_is_refused(eyes: Runner, request_: wire.Generate, reason: str) -> None:
    """And the runner goes on."""
    with pytest.raises(RequestRefused, match=reason):
        await answer(eyes, request_)
    assert (await answer(eyes, shown(RED)))[1].generated_tokens == 12


async def test_what_is_in_a_sound_changes_the_answer(ears: Runner) -> None:
    """The same sound again gives the same answer, from the cache."""

    async def heard(sound: bytes) -> tuple[float, wire.Done]:
        """How likely the first token of the answer was: it depends on all before it."""
        request = msgspec.structs.replace(shown(sound), logprobs=0)
        async with aclosing(ears.generate(request)) as events:
            said = [event async for event in events]
        chunk = next(event for event in said if isinstance(event, wire.Chunk))
        assert isinstance(said[-1], wire.Done)
        return round(chunk.logprobs[0].logprob, 4), said[-1]

    low, first = await heard(LOW)
    high, _ = await heard(HIGH)
    again, done = await heard(LOW)
    assert low != high
    assert again == low
    text = await ears.tokenize("Look:  What is it?")
    assert first.prompt_tokens == len(text) + SOUND_TOKENS
    assert done.cached_tokens == done.prompt_tokens - 1


async def test_ears_do_not_see_and_eyes_do_not_hear(eyes: Runner, ears: Runner) -> None:
    """Each refuses the other's; both go on."""
    for runner, wrong, right in ((eyes, LOW, RED), (ears, RED, LOW), (ears, LOW[:30], LOW)):
        with pytest.raises(RequestRefused, match=r"can't (be read; this|take)|is damaged"):
            await answer(runner, shown(wrong))
        assert (await answer(runner, shown(right)))[1].generated_tokens == 12


async def test_models_without_eyes_say_so(runner: Runner) -> None:
    with pytest.raises(NotSupported, match="no projector"):
        await answer(runner, shown(RED))


async def test_a_broken_projector_fails_the_load(tmp_path: Path) -> None:
    broken = tmp_path / "projector.gguf"
    broken.write_bytes(b"GGUF nonsense")
    with pytest.raises(LoadFailed, match="projector"):
        await seeing(tmp_path, broken)
