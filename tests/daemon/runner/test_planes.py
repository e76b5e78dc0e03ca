"""Models that place images in two dimensions: an image takes more cells than positions.

What they say is what mtmd's own helper and llama.cpp make of the same prompt from scratch.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from qm.daemon.runner import wire
from qm.daemon.runner.failures import RequestRefused
from qm.daemon.runner.process import Runner

from .conftest import greedy
from .reference import Answer, answered, assert_same
from .test_media import BLUE, MARK, RED
from .tiny_models import EMBED, write_tiny_model
from .tiny_projector import write_tiny_planar_eyes

pytestmark = pytest.mark.asyncio(loop_scope="module")
N = 8
PLACEMENT = wire.Placement(
    n_ctx=512, n_batch=64, n_ubatch=64, n_parallel=3, n_spare=4, n_threads=1, flash_attention="off"
)
LONG = f"A long way before it. {MARK} And so on. What is it?"
TWO = f"Look: {MARK} then {MARK}."

_SCRIPT = """
import ctypes, json, sys
from qm.daemon.runner.isolation import forgo_amx
forgo_amx()
import numpy as np
import llama_cpp as C
from llama_cpp import mtmd_cpp as M
model_path, projector, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
C.llama_backend_init()
model = C.llama_model_load_from_file(model_path.encode(), C.llama_model_default_params())
vocabulary = C.llama_model_get_vocab(model)
n_vocab = C.llama_vocab_n_tokens(vocabulary)
media = M.mtmd_context_params_default()
media.use_gpu, media.n_threads = False, 1
eyes = M.mtmd_init_from_file(projector.encode(), model, media)
for line in sys.stdin:
    prompt, images = json.loads(line)
    params = C.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_threads, params.n_threads_batch = 512, 64, 1, 1
    context = C.llama_init_from_model(model, params)
    bitmaps = []
    for image in images:
        data = bytes.fromhex(image)
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        bitmaps.append(M.mtmd_helper_bitmap_init_from_buf(eyes, buffer, len(data), False))
    chunks, text = M.mtmd_input_chunks_init(), prompt.encode()
    given = M.mtmd_input_text(text, len(text), True, True)
    array = (ctypes.c_void_p * len(bitmaps))(*bitmaps)
    assert M.mtmd_tokenize(eyes, chunks, ctypes.byref(given), array, len(bitmaps)) == 0
    counts = [
        M.mtmd_input_chunk_get_n_tokens(M.mtmd_input_chunks_get(chunks, at))
        for at in range(M.mtmd_input_chunks_size(chunks))
    ]
    past = C.llama_pos()
    assert not M.mtmd_helper_eval_chunks(
        eyes, context, chunks, 0, 0, 64, True, ctypes.byref(past)
    )
    batch, tokens, logprobs, margins = C.llama_batch_init(1, 0, 1), [], [], []
    for at in range(wanted):
        pointer = C.llama_get_logits_ith(context, -1)
        logits = np.ctypeslib.as_array(pointer, (n_vocab,)).astype(np.float64)
        token = int(logits.argmax())
        first, second = np.sort(logits)[:-3:-1]
        tokens.append(token)
        logprobs.append(float(-np.log(np.exp(logits - first).sum())))
        margins.append(float(first - second))
        batch.n_tokens, batch.token[0], batch.pos[0] = 1, token, past.value + at
        batch.n_seq_id[0], batch.seq_id[0][0], batch.logits[0] = 1, 0, 1
        assert C.llama_decode(context, batch) == 0
    C.llama_free(context)
    print(json.dumps([sum(counts), past.value, tokens, logprobs, margins]))
"""


def reference(folder: Path, asked: list[tuple[str, tuple[bytes, ...]]]) -> list[tuple[int, Answer]]:
    """What each prompt counts, and its answer from scratch."""
    lines = [
        json.dumps([prompt.replace(MARK, "<__media__>"), [image.hex() for image in images]])
        for prompt, images in asked
    ]
    command = [sys.executable, "-c", _SCRIPT, *map(str, (folder / "m.gguf", folder / "p.gguf", N))]
    done = subprocess.run(
        command, input="\n".join(lines), check=True, stdout=subprocess.PIPE, text=True, timeout=300
    )
    found = [json.loads(line) for line in done.stdout.splitlines()[-len(asked) :]]
    assert all(past < count for count, past, *_ in found)
    return [(count, Answer(*answer)) for count, _, *answer in found]


async def loaded(folder: Path) -> Runner:
    """One that keeps conversations in `folder`."""
    runner = await Runner.spawn(folder / "log")
    directory = {
        "kv_directory": str(folder),
        "kv_budget_bytes": 1 << 26,
        "model_digest": "sha256:1",
    }
    load = wire.Load(
        *(0, (str(folder / "m.gguf"),), PLACEMENT),
        projector=str(folder / "p.gguf"),
        **directory,  # type: ignore[arg-type]
    )
    try:
        await runner.load(load)
    except BaseException:
        await runner.close()
        raise
    return runner


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and its projector."""
    folder = tmp_path_factory.mktemp("planes")
    write_tiny_model(folder / "m.gguf", "qwen2vl")
    write_tiny_planar_eyes(folder / "p.gguf", EMBED)
    return folder


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def planar(folder: Path) -> AsyncIterator[Runner]:
    runner = await loaded(folder)
    yield runner
    await runner.close()


async def ask(runner: Runner, prompt: str, *images: bytes) -> tuple[Answer, wire.Done]:
    options = {"ignore_eos": True}
    request = greedy(prompt, N, images=images, image_marker=MARK, logprobs=0, options=options)
    return await answered(runner, request)


async def test_answers_are_those_from_scratch(planar: Runner, folder: Path) -> None:
    """One image and two; alone, again from the cache, together, and on from a common beginning."""
    asked = [(LONG, (RED,)), (LONG, (BLUE,)), (TWO, (RED, BLUE)), (f"{LONG} Say!", (RED,))]
    expected = await asyncio.to_thread(reference, folder, asked)
    alone = [await ask(planar, prompt, *images) for prompt, images in asked]
    again = [await ask(planar, prompt, *images) for prompt, images in asked]
    together = await asyncio.gather(*(ask(planar, prompt, *images) for prompt, images in asked))
    for ways in zip(expected, alone, again, together, strict=True):
        (count, theirs), *ours = ways
        for answer, done in ours:
            assert done.prompt_tokens == count
            assert_same(answer, theirs, rounding=0.01)
    assert alone[3][1].cached_tokens > alone[0][1].prompt_tokens - 20
    assert all(done.cached_tokens > done.prompt_tokens - 10 for _, done in again)


async def test_all_cells_of_an_image_count(planar: Runner) -> None:
    """A prompt whose positions would fit is refused where its cells do not; others go on."""
    with pytest.raises(RequestRefused, match="the context holds 512"):
        await ask(planar, MARK * 14 + "What?", *[RED, BLUE] * 7)
    many = [ask(planar, f"{number}: {TWO * 2}", *[RED, BLUE] * 2) for number in range(6)]
    assert all(done.generated_tokens == N for _, done in await asyncio.gather(*many))


async def test_a_conversation_about_images_goes_on_after_a_reload(folder: Path) -> None:
    """What is kept on the disk has its images."""
    prompt = f"{TWO} A few words that come after both of them, so that there is more to keep."
    first = await loaded(folder)
    try:
        before, done = await ask(first, prompt, RED, BLUE)
    finally:
        await first.close()
    second = await loaded(folder)
    try:
        after, again = await ask(second, prompt, RED, BLUE)
    finally:
        await second.close()
    assert done.prompt_tokens == again.prompt_tokens
    assert again.cached_tokens == again.prompt_tokens - 1
    assert_same(after, Answer(before.tokens, before.logprobs, [1.0] * N), rounding=0.01)
