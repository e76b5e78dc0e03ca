"""Idle conversations leave the cache for an answer that runs alone, and come back as they were."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest
from qm.daemon.runner import wire
from qm.daemon.runner.packing import KEPT_BYTES, MOST_BYTES
from qm.daemon.runner.process import collect

from .conftest import chat, greedy, started
from .reference import answer, assert_same, reference
from .tiny_models import write_tiny_model

N = 6
FIRST = (1, *(40 + 7 * at % 240 for at in range(300)))
SECOND = (1, *range(270, 200, -1))

_SCRIPT = """
import json, sys
from qm.daemon.runner.isolation import forgo_amx
forgo_amx()
from qm.daemon.runner import packing, wire
from qm.daemon.runner.llama import Batch, Context
from qm.daemon.runner.llama_log import Log
from qm.daemon.runner.slots import Slots
from qm.daemon.runner.weights import Model

packing.MOST_BYTES = int(sys.argv[2])
packing.KEPT_BYTES = int(sys.argv[4])
placement = wire.Placement(n_ctx=2048, n_parallel=1, n_threads=1, flash_attention=sys.argv[3])
log = Log()
model = Model([sys.argv[1]], placement, lambda _: True, log)
context = Context(model, placement, log, embedding=False)
batch, slots = Batch(context.n_batch), Slots(context.n_slots)
first, other = slots.all[:2]
tokens = [1, *(40 + 7 * at % 240 for at in range(300))]

def evaluate(slot, start, end):
    batch.clear()
    index = batch.add_many(tokens[start:end], start, slot.id, output=True)
    assert context.decode(batch) == 0
    return context.logits_bytes(index).hex()

evaluate(first, 0, 300)
slots.take(first)
first.grow(300)
slots.give_back(first, tokens[:300])
found = {"expected": evaluate(first, 300, 301)}
context.remove(first.id, 300)
found["pays"] = [packing.Packing(context, slots).pays(n_tokens) for n_tokens in (400, 10)]
packing.Packing(context, slots).pack()
found["cells"], found["left"] = slots.most_cells, context.state_bytes(first.id)
found["packed"] = first.packed is not None
if found["packed"]:
    found["part"] = packing.Packing(context, slots).unpack(first, other, 200)
    found["still"] = first.packed is not None
    packing.Packing(context, slots).unpack(first, first, 300)
    found["again"], found["gone"] = evaluate(first, 300, 301), first.packed is None
    evaluate(other, 200, 300)
    found["branch"] = evaluate(other, 300, 301)
print(json.dumps(found))
"""

_CLEARING = """
packing.KEPT_BYTES = int(2.5 * context.state_bytes(first.id))
talks = {slot: [1, *(40 + (7 + slot.id) * at % 240 for at in range(300))] for slot in slots.all}

def begin(slot):
    tokens[:] = talks[slot]
    found = evaluate(slot, 0, 299), evaluate(slot, 299, 300)
    slots.take(slot)
    slot.grow(300)
    slots.give_back(slot, tokens[:300])
    return found

def told():
    return ["packed" if slot.packed else "here" if slot.spans else "lost" for slot in slots.all]

context.clear()
for slot in slots.all:
    slots.empty(slot)
clearing, shown = packing.Packing(context, slots), []
before = begin(slots.all[0])
for slot in slots.all[1:]:
    begin(slot)
for source in (slots.all[1], None):
    clearing.clear(source)
    shown.append(told())
again = begin(slots.all[0])
print(json.dumps({"shown": shown, "same": before == again}))
"""


_SCATTERING = """
context.clear()
for slot in slots.all:
    slots.empty(slot)
slots.take(other)
evaluate(other, 0, 10)
slots.take(first)
evaluate(first, 0, 300)
found = {"expected": evaluate(first, 300, 301)}
context.remove(first.id, 300)
context.remove(other.id, -1)
slots.give_back(other, [])
found["scattered"] = evaluate(first, 300, 301)  # before all its others
first.grow(301)
slots.give_back(first, tokens[:301])
packing.Packing(context, slots).pack()
packing.Packing(context, slots).unpack(first, first, 300)
found["again"] = evaluate(first, 300, 301)
print(json.dumps(found))
"""

_GATHERING = """
context.clear()
for slot in slots.all:
    slots.empty(slot)
tokens = tokens[:300]
for slot in slots.all:
    slots.take(slot)
    evaluate(slot, 0, 300)
    slot.grow(300)
    slots.give_back(slot, tokens)
    packing.Packing(context, slots).pack()
print(json.dumps([slot.packed is not None for slot in slots.all]))
"""


def _found(
    model: Path,
    most_bytes: int = MOST_BYTES,
    kept_bytes: int = KEPT_BYTES,
    more: str = "",
    flash: str = "on",
) -> dict[str, Any]:
    script, limits = _SCRIPT + more, (str(most_bytes), flash, str(kept_bytes))
    command = [sys.executable, "-c", script, str(model), *limits]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _numbers(logits: str) -> list[float]:
    return array("f", bytes.fromhex(logits)).tolist()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("packing") / "model.gguf", "llama")


def test_what_is_packed_comes_back_to_the_bit(tiny: Path) -> None:
    """Whole into its own slot, or a part into another; the cache is empty in between."""
    found = _found(tiny)
    assert found["pays"] == [False, True]
    assert found["cells"] == 0
    assert found["left"] < 1000
    assert (found["part"], found["still"], found["gone"]) == (200, True, True)
    assert found["again"] == found["expected"]
    assert _numbers(found["branch"]) == pytest.approx(_numbers(found["expected"]), abs=1e-3)


def test_what_comes_back_in_part_has_no_gap_before_it(tiny: Path) -> None:
    """Beside others its end had come to stand before its beginning; cut there, it is in order."""
    found = _found(tiny, more=_SCATTERING)
    assert found["expected"] == found["again"] != found["scattered"]


def test_what_takes_too_much_memory_stays_where_it_is(tiny: Path) -> None:
    """Nothing is packed then, rather than a part."""
    for limits in ((1000, KEPT_BYTES), (MOST_BYTES, 1000)):
        found = _found(tiny, *limits)
        assert (found["packed"], found["cells"]) == (False, 300)


def test_what_went_before_is_no_obstacle(tiny: Path) -> None:
    """How much is packed at once is a matter of time; how much in all, one of memory."""
    one = 301 * 2 * 2 * 16 * 2  # bytes: tokens, blocks, keys and values, numbers of 16 bits
    assert all(_found(tiny, most_bytes=2 * one, more=_GATHERING))


def test_an_answer_that_must_repeat_has_the_first_cells(tiny: Path) -> None:
    """Whatever was there: the last used of the others are packed, as many as may be; its own
    conversation always, or it stays. A prompt has the same logits there as in a new cache.
    """
    found = _found(tiny, more=_CLEARING, flash="off")
    lost, packed = "lost", "packed"
    assert found["shown"] == [
        [lost, packed, lost, packed, packed],
        [lost, lost, lost, packed, packed],
    ]
    assert found["same"]


@pytest.mark.asyncio
async def test_conversations_in_turns_stay_warm(tiny: Path, tmp_path: Path) -> None:
    """Each comes back from memory, with the answer of one that nobody interrupted."""
    placement = wire.Placement(n_ctx=1024, n_parallel=2, n_threads=1)
    longer = [*FIRST, *range(60, 65)]
    branch = [*FIRST[:200], *range(60, 65)]
    prompts = [FIRST, SECOND, longer, branch, SECOND]
    expected = await asyncio.to_thread(reference, tiny, prompts, N)
    runner = await started(tiny, tmp_path / "log", placement)
    cached = []
    for prompt, one in zip(prompts, expected, strict=True):
        ours, done = await answer(runner, prompt, N)
        assert_same(ours, one)
        cached.append(done.cached_tokens)
    await runner.close()
    assert cached == [0, 1, len(FIRST), 200, len(SECOND) - 1]


@pytest.mark.asyncio
async def test_a_packed_conversation_comes_back_instead_of_an_idle_one(
    tiny: Path, tmp_path: Path
) -> None:
    """Where the cache has no room for both; what idles there was of less use."""
    placement = wire.Placement(n_ctx=256, n_parallel=1, n_threads=1)
    first, second = FIRST[:130], (1, *range(270, 146, -1))
    runner = await started(tiny, tmp_path / "log", placement)
    cached = []
    for prompt in (first, second, (*first, *range(60, 75))):
        _, done = await answer(runner, prompt, 2)
        cached.append(done.cached_tokens)
    await runner.close()
    assert cached == [0, 1, len(first)]


@pytest.mark.asyncio
@pytest.mark.parametrize("flash", ["on", "off"])
async def test_an_answer_repeats_to_the_bit_after_it_came_beside_others(
    tiny: Path, tmp_path: Path, flash: str
) -> None:
    """What ran beside it had left gaps, so that its end stood before its beginning."""
    placement = wire.Placement(n_ctx=1024, n_parallel=3, n_threads=1, flash_attention=flash)
    talks = [FIRST[:81], SECOND[:46], (*FIRST[:5], *SECOND)]
    runner = await started(tiny, tmp_path / "log", placement)
    alone = [(await answer(runner, talk, N))[0] for talk in talks]
    for talk in talks:
        await answer(runner, talk, 1)
    await asyncio.gather(*(answer(runner, talk, N) for talk in talks))
    again = [(await answer(runner, talk, N))[0] for talk in talks]
    await runner.close()
    assert again == alone


async def test_without_flash_attention_answers_repeat(smollm2_gguf: Path, tmp_path: Path) -> None:
    """Sums over cells round by where tokens stand, so a request finds its own in their old place:
    at once, and after others have used the cache.
    """
    placement = wire.Placement(n_ctx=1024, n_parallel=2, n_threads=1, flash_attention="off")
    runner = await started(smollm2_gguf, tmp_path / "log", placement)
    hot = wire.Options(temperature=1.5, top_k=0, top_p=1.0, seed=7, num_predict=12)
    found = []
    for others in ((), (), (chat("How deep is the sea?"), chat("Name a bird.")), ()):
        for other in others:
            await collect(runner.generate(greedy(other, 6)))
        text, _ = await collect(runner.generate(wire.Generate(0, hot, chat("Who was Kepler?"))))
        found.append(text)
    await runner.close()
    assert len(set(found)) == 1, found
