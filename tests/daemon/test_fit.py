"""Placement: what a model takes, and which context fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qm.daemon.fit import (
    KV_BYTES_PER_ELEMENT,
    DoesNotFit,
    ModelFacts,
    Wanted,
    fit,
    model_facts,
)
from qm.daemon.hardware import Machine
from qm.daemon.runner.wire import Options
from qm.modelfiles.parameters import KV_TYPES
from qm.store.gguf import Header, Tensor, Value, read_header

GIB = 1 << 30
FACTS = ModelFacts(
    weights_bytes=4 * GIB, n_ctx_train=131072, n_embd=4096, n_vocab=128256, kv_elements=32 * 2048
)
WANTED = Wanted(context_length=4096, n_parallel=4)


def machine(available_bytes: int, n_cores: int = 8) -> Machine:
    return Machine(available_bytes * 2, available_bytes, n_cores)


def test_every_kv_type_of_the_options_has_a_size() -> None:
    """An accepted option must never be a KeyError here."""
    assert set(KV_BYTES_PER_ELEMENT) == set(KV_TYPES)


def test_facts_of_a_real_model(smollm2_gguf: Path) -> None:
    """SmolLM2-135M: 30 layers, 3 of 9 heads for keys and values, 64 wide."""
    facts = model_facts(read_header(smollm2_gguf), extra_weights_bytes=5)
    assert facts.kv_elements == 30 * 3 * (64 + 64)
    assert facts.n_ctx_train == 8192
    assert facts.n_vocab == 49152
    assert 90 << 20 < facts.weights_bytes < smollm2_gguf.stat().st_size


def test_what_is_predicted_for_a_real_model(smollm2_gguf: Path) -> None:
    """llama.cpp reports 96.6 MB of weights, 94.4 of KV cache and 18.4 of compute buffers."""
    facts = model_facts(read_header(smollm2_gguf))
    found = fit(facts, machine(GIB), Options(num_ctx=4096), WANTED)
    assert found.kv_bytes == 4096 * 23040
    assert found.predicted_bytes == pytest.approx(209_306_254, rel=0.02)


def test_kv_heads_may_differ_between_layers() -> None:
    """Some architectures give one number a layer, some leave layers without attention."""
    metadata: dict[str, Value] = {
        "general.architecture": "x",
        "x.block_count": 3,
        "x.embedding_length": 128,
        "x.attention.head_count": 4,
        "x.attention.head_count_kv": (4, 0, 2),
        "x.attention.key_length": 16,
        "x.attention.value_length": 8,
    }
    tensor = Tensor("token_embd.weight", "F32", (128, 100), 0, 51200)
    header = Header(3, metadata, (tensor,), 0, 32, 51200)
    facts = model_facts(header)
    assert facts.kv_elements == 6 * 24
    assert facts.n_vocab == 100


def test_numbers_that_are_missing_count_as_zero() -> None:
    """A strange model is placed by its weights alone instead of failing here."""
    facts = model_facts(Header(3, {}, (), 0, 32, 0))
    assert facts == ModelFacts(0, 0, 0, 0, 0)
    assert fit(facts, machine(GIB), Options(), WANTED).placement.n_ctx == 4096


def test_the_default_context_holds_where_nobody_asks() -> None:
    """Memory permitting."""
    found = fit(FACTS, machine(64 * GIB), Options(), WANTED)
    assert found.placement.n_ctx == found.target_n_ctx == 4096
    assert found.placement.n_threads == 8
    assert found.placement.n_parallel == 4
    assert found.kv_bytes == 4096 * 32 * 2048 * 2
    assert "context 4096" in found.reason


@pytest.mark.parametrize(("asked", "given"), [(8192, 8192), (10**9, 131072), (1, 4), (0, 4096)])
def test_an_asked_context_is_clamped_to_what_was_trained(asked: int, given: int) -> None:
    """From 4 tokens to the model's own limit; 0 leaves it to us."""
    found = fit(FACTS, machine(640 * GIB), Options(num_ctx=asked), WANTED)
    assert found.placement.n_ctx == given


def test_an_unasked_context_shrinks_to_fit_and_says_so() -> None:
    """Rather than refusing a model that works with less."""
    found = fit(FACTS, machine(5 * GIB), Options(), Wanted(65536, 1))
    assert 512 <= found.placement.n_ctx < 65536
    assert found.target_n_ctx == 65536
    assert found.needed_bytes <= 5 * GIB
    assert "memory is short for 65536" in found.reason


def test_an_asked_context_is_never_shrunk() -> None:
    """Cutting it silently is what others do."""
    with pytest.raises(DoesNotFit, match="65536 tokens") as caught:
        fit(FACTS, machine(5 * GIB), Options(num_ctx=65536), WANTED)
    assert "5,120 MiB are available" in str(caught.value)


def test_weights_that_do_not_fit_are_refused() -> None:
    """With every number, not a crash later."""
    with pytest.raises(DoesNotFit, match="weights 4,096 MiB"):
        fit(FACTS, machine(3 * GIB), Options(), WANTED)


def test_wishes_override_per_value() -> None:
    """What the request says wins over the settings and the machine."""
    wishes = Options(num_thread=3, num_parallel=2, num_batch=64, kv_type="q8_0", use_mmap=False)
    placement = fit(FACTS, machine(64 * GIB), wishes, WANTED).placement
    assert placement.n_threads == 3
    assert placement.n_parallel == 2
    assert placement.n_batch == placement.n_ubatch == 64
    assert placement.kv_type == "q8_0"
    assert not placement.use_mmap


@given(
    available=st.integers(0, 64 * GIB),
    num_ctx=st.none() | st.integers(1, 200_000),
    kv_type=st.sampled_from(KV_TYPES),
)
def test_a_placement_never_exceeds_the_memory(
    available: int, num_ctx: int | None, kv_type: str
) -> None:
    """Whatever is wished for; and what was asked for is what is given."""
    wishes = Options(num_ctx=num_ctx, kv_type=kv_type)
    try:
        found = fit(FACTS, machine(available), wishes, WANTED)
    except DoesNotFit:
        return
    assert found.needed_bytes <= available
    if num_ctx is not None:
        assert found.placement.n_ctx == max(4, min(num_ctx, 131072))


@given(available=st.integers(5 * GIB, 64 * GIB), more=st.integers(0, 8 * GIB))
def test_more_memory_never_gives_less_context(available: int, more: int) -> None:
    """Monotone in memory."""
    wanted = Wanted(131072, 1)
    before = fit(FACTS, machine(available), Options(), wanted).placement.n_ctx
    after = fit(FACTS, machine(available + more), Options(), wanted).placement.n_ctx
    assert after >= before
