"""Filling in the middle, with the tokens that the vocabulary names for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from qm.daemon.runner import wire
from qm.daemon.runner.failures import NotSupported
from qm.daemon.runner.process import Runner, collect

from .conftest import PLACEMENT, greedy, with_numbers

pytestmark = pytest.mark.asyncio(loop_scope="module")
PREFIX, SUFFIX, MIDDLE = 5, 6, 7
BEFORE, AFTER = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))"


async def test_prefix_suffix_and_middle(smollm2_gguf: Path, tmp_path: Path) -> None:
    """The order in which models are trained, whatever special words the code contains."""
    model = tmp_path / "fim.gguf"
    ids = {"fim_pre": PREFIX, "fim_suf": SUFFIX, "fim_mid": MIDDLE}
    fields = {f"tokenizer.ggml.{name}_token_id": number for name, number in ids.items()}
    await asyncio.to_thread(lambda: model.write_bytes(with_numbers(smollm2_gguf, fields)))
    runner = await Runner.spawn(tmp_path / "log")
    try:
        loaded = await runner.load(wire.Load(0, (str(model),), PLACEMENT))
        assert loaded.has_fim
        before = await runner.tokenize(BEFORE, add_special=False, parse_special=False)
        after = await runner.tokenize(AFTER + "<|im_end|>", add_special=False, parse_special=False)
        whole = (PREFIX, *before, SUFFIX, *after, MIDDLE)
        filled = await collect(runner.generate(greedy(BEFORE, suffix=AFTER + "<|im_end|>")))
        spelled = await collect(runner.generate(greedy("", tokens=whole)))
        assert filled[0] == spelled[0]
        assert filled[1].prompt_tokens == len(whole)
    finally:
        await runner.close()


async def test_without_such_tokens_there_is_no_middle(runner: Runner) -> None:
    with pytest.raises(NotSupported, match="filling in the middle"):
        await collect(runner.generate(greedy(BEFORE, suffix=AFTER)))
