"""A runner with the real model, and what llama-cpp-python's own class answers."""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from qm.daemon.runner import wire
from qm.daemon.runner.process import Runner
from qm.store.gguf import read_header

Reference = Callable[[str, int], str]
_UINT32 = 4  # GGUF's number for the type
# One thread: beside other load two wait for each other more than they compute.
# Flash attention: without it several tokens at once are never evaluated to the bit as one by one.
PLACEMENT = wire.Placement(
    n_ctx=1024, n_batch=256, n_ubatch=256, n_parallel=4, n_threads=1, flash_attention="on"
)


def chat(question: str) -> str:
    """`question` as SmolLM2's template writes it."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def greedy(prompt: str, n: int = 8, **more: object) -> wire.Generate:
    """A request whose answer is the same every time."""
    options = {"temperature": 0.0, "num_predict": n} | more.pop("options", {})  # type: ignore[operator]
    return wire.Generate(0, wire.Options(**options), prompt, **more)  # type: ignore[arg-type]


async def started(
    model: Path, log: Path, placement: wire.Placement = PLACEMENT, **more: Any
) -> Runner:
    """A runner that has loaded `model`; `more` goes into the `Load` frame."""
    runner = await Runner.spawn(log)
    try:
        await runner.load(wire.Load(0, (str(model),), placement, **more))
    except BaseException:
        await runner.close()
        raise
    return runner


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def runner(
    smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Runner]:
    """One loaded runner for a whole module."""
    loaded = await started(smollm2_gguf, tmp_path_factory.mktemp("runner") / "log")
    yield loaded
    await loaded.close()


async def until_idle(runner: Runner) -> None:
    """Returns when no request runs any more."""
    while (await runner.ping()).active:  # noqa: ASYNC110  # another process has no event for us
        await asyncio.sleep(0.01)


def with_numbers(model: Path, fields: dict[str, int]) -> bytes:
    """`model` with more metadata: whole numbers of 32 bits."""
    header, data = read_header(model), model.read_bytes()
    added = b"".join(
        struct.pack("<Q", len(name)) + name.encode() + struct.pack("<II", _UINT32, number)
        for name, number in fields.items()
    )
    magic, version, tensors, n_fields = struct.unpack("<4sIQQ", data[:24])
    start = struct.pack("<4sIQQ", magic, version, tensors, n_fields + len(fields)) + added
    # The table of tensors ends before the data, with room that the padding refills.
    padding = -len(added) % header.alignment
    return start + data[24 : header.data_offset] + bytes(padding) + data[header.data_offset :]


_REFERENCE = """
import json, sys
from qm.daemon.runner.isolation import forgo_amx
forgo_amx()
from llama_cpp import Llama
model, prompts = sys.argv[1], json.loads(sys.argv[2])
llama = Llama(model, n_ctx=1024, n_threads=1, n_threads_batch=1, flash_attn=True, verbose=False)
answers = {}
for prompt, n in prompts:
    llama.reset()
    tokens = llama.tokenize(prompt.encode(), add_bos=False, special=True)
    made = llama.create_completion(tokens, max_tokens=n, temperature=0)
    answers[prompt] = made["choices"][0]["text"]
print(json.dumps(answers))
"""


def reference_answers(model: Path, prompts: list[tuple[str, int]]) -> dict[str, str]:
    """What llama-cpp-python's `Llama` generates at temperature 0, by prompt."""
    done = subprocess.run(
        [sys.executable, "-c", _REFERENCE, str(model), json.dumps(prompts)],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    answers: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return answers
