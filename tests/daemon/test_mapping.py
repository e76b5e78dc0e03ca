"""What a load will report of mapped files, where no dry run can be asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qm.daemon.facts import ModelFacts, model_facts
from qm.daemon.fit import fit
from qm.daemon.mapping import as_mapped
from qm.daemon.placing import Costs, Room, Wanted
from qm.daemon.runner.wire import Options
from qm.store.gguf import Header, Tensor, Value

from .test_fit import GIB, MIB, machine

APPLE = Room("MTL0", GIB, GIB, shares_host=True, maps_files=True)
CARD = Room("CUDA0", GIB, GIB)
HEAD_FIRST = {"output": 80, "token_embd": 40, "blk.0.x": 100, "blk.1.x": 200, "output_norm": 4}
TIED = {"token_embd": 40, "blk.0.x": 100, "blk.1.x": 200, "output_norm": 4}


def facts_of(sizes: dict[str, int]) -> ModelFacts:
    """Of a file with these tensors, one after the other."""
    metadata: dict[str, Value] = {"general.architecture": "x", "x.block_count": 2}
    tensors, offset = [], 0
    for name, size in sizes.items():
        tensors.append(Tensor(f"{name}.weight", "F32", (size // 4,), offset, size))
        offset += size
    return model_facts(Header(3, metadata, tuple(tensors), 0, 32, offset))


@pytest.mark.parametrize(
    ("sizes", "room", "use_mmap", "expected"),
    [
        (HEAD_FIRST, APPLE, True, [140, 424]),
        (HEAD_FIRST, APPLE, False, [140, 284]),
        (HEAD_FIRST, CARD, True, [140, 284]),
        (TIED, APPLE, True, [140, 344]),
        (TIED, CARD, True, [140, 244]),
    ],
)
def test_the_range_from_the_first_to_the_last_tensor_is_mapped(
    sizes: dict[str, int], room: Room, use_mmap: bool, expected: list[int]
) -> None:
    """Of one layer and the output, which lie apart: by GPUs that compute on the file's pages."""
    facts, wishes = facts_of(sizes), Options(num_gpu=2, use_mmap=use_mmap)
    found = fit(facts, machine(GIB), wishes, Wanted(4, 1), rooms=(room,), costs=Costs(0, 0, 0))
    assert [use.weights_bytes for use in as_mapped(found, facts).uses] == expected


def test_what_lies_between_the_hosts_tensors_is_mapped_too() -> None:
    """A table of the output at the end of the file, which stays with the host."""
    facts = facts_of({"token_embd": 40, "blk.0.x": 100, "blk.1.x": 200, "output": 80 * MIB})
    room = replace(CARD, room_bytes=MIB)
    wanted, wishes = Wanted(4, 1), Options()
    found = fit(facts, machine(GIB), wishes, wanted, rooms=(room,), costs=Costs(0, 0, 0))
    assert found.head_on_host
    assert [use.weights_bytes for use in found.uses] == [80 * MIB + 40, 300]
    assert [use.weights_bytes for use in as_mapped(found, facts).uses] == [80 * MIB + 340, 300]
