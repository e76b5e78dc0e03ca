"""What headers say about sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qm.daemon.facts import kv_elements, model_facts
from qm.store.gguf import Header, Tensor, Value, read_header


def tensor(name: str, size: int, offset: int = 0) -> Tensor:
    return Tensor(name, "F32", (size // 4,), offset, size)


def test_facts_of_a_real_model(smollm2_gguf: Path) -> None:
    """SmolLM2-135M: 30 layers, 3 of 9 heads for keys and values, 64 wide, one table for both."""
    header = read_header(smollm2_gguf)
    facts = model_facts(header)
    assert facts.kv_elements == 30 * 3 * (64 + 64)
    assert facts.n_ctx_train == 8192
    assert facts.n_vocab == 49152
    assert facts.weights_bytes == header.weights_bytes
    assert facts.tied_bytes == facts.input_bytes
    assert len(facts.layers) == 30
    assert not facts.has_experts


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
    assert kv_elements(Header(3, metadata, (), 0, 32, 0)) == (96, 0, 48)


def test_numbers_that_are_missing_count_as_zero() -> None:
    """A strange model is placed by its weights alone instead of failing here."""
    facts = model_facts(Header(3, {}, (tensor("strange", 400),), 0, 32, 400))
    assert facts.weights_bytes == 400
    assert facts.layers == ()


def test_models_that_embed_may_see_ahead() -> None:
    """By what they say or by their architecture; not those that generate by diffusion."""

    def sees_ahead(architecture: str, **said: Value) -> bool:
        own = {f"{architecture}.{key.replace('__', '.')}": value for key, value in said.items()}
        metadata: dict[str, Value] = {"general.architecture": architecture, **own}
        return model_facts(Header(3, metadata, (), 0, 32, 0)).sees_ahead

    assert sees_ahead("bert", pooling_type=1, attention__causal=False)
    assert sees_ahead("gemma-embedding", pooling_type=1)
    assert not sees_ahead("qwen3", pooling_type=3)
    assert not sees_ahead("bert", pooling_type=0, attention__causal=False)
    assert not sees_ahead("dream", attention__causal=False)


def test_experts_input_and_output_are_told_apart() -> None:
    """Shared experts are no experts: every token uses them."""
    metadata: dict[str, Value] = {"general.architecture": "x", "x.block_count": 1}
    tensors = (
        tensor("token_embd.weight", 40, 0),
        tensor("blk.0.attn_q.weight", 400, 40),
        tensor("blk.0.ffn_up_exps.weight", 4000, 440),
        tensor("blk.0.ffn_up_shexp.weight", 400, 4440),
        tensor("output_norm.weight", 4, 4840),
        tensor("output.weight", 80, 4844),
    )
    facts = model_facts(Header(3, metadata, tensors, 0, 32, 9999), extra_bytes=7)
    assert (facts.input_bytes, facts.output_bytes, facts.tied_bytes) == (40, 84, 0)
    assert (facts.layers[0].dense_bytes, facts.layers[0].expert_bytes) == (800, 4000)
    assert facts.extra_bytes == 7
    assert facts.mapped_bytes(0, 0) == 40
    assert facts.mapped_bytes(0, 1) == 4440
    assert facts.mapped_bytes(2, 2) == 4924


def test_later_parts_of_a_split_model_are_no_companions(smollm2_gguf: Path) -> None:
    """Their layers go where layers go; each file is mapped by itself."""
    whole = read_header(smollm2_gguf)
    middle = len(whole.tensors) // 2
    parts = [
        replace(whole, tensors=whole.tensors[:middle]),
        replace(whole, tensors=whole.tensors[middle:]),
    ]
    facts, split = model_facts(whole), model_facts(parts[0], parts=parts[1:])
    assert split.extra_bytes == 0
    assert split.layers == facts.layers
    assert split.weights_bytes == facts.weights_bytes
    everything = len(facts.layers) + 1
    assert (
        0 < split.mapped_bytes(everything, everything) <= facts.mapped_bytes(everything, everything)
    )


def test_a_draft_model_counts_with_its_cache(smollm2_gguf: Path) -> None:
    """Its weights and what a token leaves in it."""
    header = read_header(smollm2_gguf)
    facts = model_facts(header, draft=header, draft_compute_bytes=7, projector_bytes=100)
    assert facts.extra_bytes == header.weights_bytes + 107
    assert facts.extra_host_bytes == facts.input_bytes + 7
    assert facts.extra_kv_elements == facts.kv_elements
    assert facts.with_projector(300).extra_bytes == header.weights_bytes + 307
    measured = facts.with_projector(0).with_draft(50, 20)
    assert (measured.extra_bytes, measured.extra_host_bytes) == (50, 20)
