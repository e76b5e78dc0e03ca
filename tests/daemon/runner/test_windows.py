"""States of sliding attention go on from any of their beginnings, as if they had stayed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from .tiny_models import write_tiny_model

_SCRIPT = """
import json, struct, sys
from itertools import accumulate, pairwise
from qm.daemon.runner.isolation import forgo_amx
forgo_amx()
from qm.daemon.runner import wire
from qm.daemon.runner.llama import Batch, Context
from qm.daemon.runner.llama_log import Log
from qm.daemon.runner.weights import Model

placement = wire.Placement(n_ctx=512, n_parallel=2, n_threads=1, flash_attention=sys.argv[2])
log = Log()
model = Model([sys.argv[1]], placement, lambda _: True, log)
talks = [[1, *(40 + step * at % 240 for at in range(99))] for step in (7, 11)]
answer = [90 + at for at in range(40)]

def context():
    return Context(model, placement, log, embedding=False)

def evaluate(memory, sequence, start, tokens):
    batch, found = Batch(memory.n_batch), []
    for at in range(start, start + len(tokens), 10):
        batch.clear()
        piece = tokens[at - start:at - start + 10]
        index = batch.add_many(piece, at, sequence, output=True)
        assert memory.decode(batch) == 0
        memory.guard(sequence, at, at + len(piece))
        found.append(memory.logits_bytes(index).hex())
    return found

def stayed():
    memory = context()
    for sequence, talk in enumerate(talks):
        evaluate(memory, sequence, 0, talk)
    return memory

def restored(*states):
    memory = context()
    taken = [memory.restore(sequence, state) for sequence, state in enumerate(states)]
    return memory, taken

def parts(state):
    (count,) = struct.unpack_from("<Q", state)
    sizes = struct.unpack_from(f"<{count}Q", state, 8)
    ends = list(accumulate(sizes, initial=8 * (1 + count)))
    return [bytes(state[start:end]) for start, end in pairwise(ends)]

def joined(pieces):
    return bytearray(struct.pack(f"<{1 + len(pieces)}Q", len(pieces), *map(len, pieces))
                     + b"".join(pieces))

before = stayed()
states = [before.state(sequence) for sequence in (0, 1)]
pieces = parts(states[0])
found = {"pieces": len(pieces), "whole": joined(pieces) == states[0]}
found["bytes"] = [before.state_bytes(sequence) for sequence in (0, 1)] == list(map(len, states))
found["unharmed"] = [before.state(sequence) for sequence in (0, 1)] == states
for length in (100, 99, 84, 50, 3):
    memories = stayed(), restored(*states)[0]
    said = []
    for memory in memories:
        for sequence in (0, 1):
            memory.remove(sequence, length)
        said.append([evaluate(memory, sequence, length, answer) for sequence in (0, 1)])
    found[f"from {length}"] = said[0] == said[1]
damaged = {
    "short": states[0][:-9], "empty": bytearray(), "nonsense": bytearray(b"nonsense" * 1000),
    "no pieces": joined([]), "one lost": joined(pieces[:2] + pieces[3:]),
    "one twice": joined(pieces[:2] + pieces[1:]), "first lost": joined(pieces[1:]),
    "last lost": joined(pieces[:-1]), "one cut": joined([*pieces[:3], pieces[3][:-9], *pieces[4:]]),
    "one of nothing": joined([*pieces[:3], b"", *pieces[4:]]),
}
found["taken"] = {}
for name, state in damaged.items():
    memory, found["taken"][name] = restored(states[0], state)
    empty = memory.state_bytes(1) == context().state_bytes(1)
    found["taken"][name].append(empty and memory.state(0) == states[0])
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=["on", "off"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What happened to two conversations of 100 tokens, with and without flash attention."""
    model = tmp_path_factory.mktemp("windows") / "model.gguf"
    write_tiny_model(model, "gemma3")
    command = [sys.executable, "-c", _SCRIPT, str(model), request.param]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_state_has_a_piece_for_each_window(found: Any) -> None:
    """Six of 16 tokens and what is left of 100; nobody is harmed when one is taken."""
    assert (found["pieces"], found["whole"], found["bytes"], found["unharmed"]) == (
        7,
        True,
        True,
        True,
    )


@pytest.mark.parametrize("length", [100, 99, 84, 50, 3])
def test_any_beginning_goes_on_to_the_bit(found: Any, length: int) -> None:
    """Two conversations beside each other, as they do where they stayed."""
    assert found[f"from {length}"]


def test_what_is_not_whole_is_not_taken(found: Any) -> None:
    """Its place is empty then, and what another sequence holds is as it was."""
    assert len(found["taken"]) == 10
    assert all(taken == [True, False, True] for taken in found["taken"].values()), found["taken"]
