"""llama.cpp's account of a dry run, as a prediction of what a load reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from qm.daemon.accounts import told_apart, with_account
from qm.daemon.devices import DRAFT, BufferBytes
from qm.daemon.facts import model_facts
from qm.daemon.fit import fit
from qm.daemon.placing import Costs
from qm.daemon.runner.wire import Options
from qm.store.gguf import read_header

from .test_fit import GIB, MIB, WANTED, gpus, machine


@pytest.mark.parametrize("pinned", ["CPU", "CUDA_Host", "Vulkan_Host"])
@pytest.mark.parametrize("use_mmap", [True, False])
def test_weights_of_the_host_are_mapped_whatever_a_dry_run_calls_them(
    smollm2_gguf: Path, pinned: str, use_mmap: bool
) -> None:
    """Where a driver pins memory of the host, a dry run puts them there; a load maps the file, with
    all that lies between. Repacked ones are copies.
    """
    facts = model_facts(read_header(smollm2_gguf))
    wishes = Options(num_ctx=512, use_mmap=use_mmap)
    costs = Costs(MIB, MIB, 0)
    found = fit(facts, machine(GIB), wishes, WANTED, rooms=gpus(60 * MIB), costs=costs)
    assert 0 < found.placement.n_gpu_layers < 31
    measured = (
        BufferBytes(pinned, "CPU", weights_bytes=50 * MIB, compute_bytes=MIB),
        BufferBytes("CPU_REPACK", "CPU", weights_bytes=MIB),
        BufferBytes("CUDA0", "GPU0", weights_bytes=40 * MIB),
    )
    account = with_account(found, facts, measured)
    expected = found.mapped_bytes if use_mmap else 50 * MIB
    assert account.uses[0].weights_bytes == MIB + expected
    assert account.uses[1].weights_bytes == 40 * MIB
    assert account.needed_bytes > 50 * MIB


@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_draft_model_is_accounted_where_it_is(smollm2_gguf: Path, on_gpu: bool) -> None:
    """On the GPU but for its input, or on the host; by the dry run's numbers, not ours."""
    header = read_header(smollm2_gguf)
    facts = model_facts(header, draft=header, draft_compute_bytes=MIB)
    room = gpus((500 if on_gpu else 60) * MIB)
    found = fit(
        facts, machine(GIB), Options(num_ctx=512), WANTED, rooms=room, costs=Costs(MIB, MIB, 0)
    )
    assert found.companions_on_gpu == on_gpu
    draft = (
        BufferBytes("CPU", "CPU", facts.input_bytes, compute_bytes=4 * MIB, part=DRAFT),
        BufferBytes("CUDA0", "GPU0", 70 * MIB, 5 * MIB, 6 * MIB, part=DRAFT),
    )[: 2 if on_gpu else 1]
    own = (BufferBytes("CPU", "CPU", 50 * MIB), BufferBytes("CUDA0", "GPU0", 40 * MIB))
    told, buffers, drafted = told_apart(found, facts, (*own, *draft))
    assert (buffers, drafted) == (own, draft)
    account = with_account(found, told, buffers, drafted)
    mapped = facts.input_bytes if on_gpu else facts.draft_mapped[0]
    assert account.uses[0].weights_bytes == found.mapped_bytes + mapped
    assert account.uses[0].compute_bytes == 4 * MIB
    expected = 40 * MIB + (81 * MIB if on_gpu else 0)
    assert account.uses[1].total_bytes == expected
    assert told.draft_bytes == (76 * MIB if on_gpu else facts.input_bytes + 4 * MIB)
