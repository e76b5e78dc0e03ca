"""The pairs that nearly all families write, and the names under which they find the facts."""

from __future__ import annotations

from .config import Config
from .errors import BadConfig
from .pairs import Pairs
from .rope import Rope

_WHOLE = {
    ".context_length": (
        "max_position_embeddings",
        "n_ctx",
        "n_positions",
        "max_length",
        "max_sequence_length",
        "model_max_length",
    ),
    ".embedding_length": ("hidden_size", "n_embd", "dim"),
    ".feed_forward_length": ("intermediate_size", "n_inner", "hidden_dim"),
    ".attention.head_count": ("num_attention_heads", "n_head", "n_heads"),
    ".attention.head_count_kv": ("num_key_value_heads", "n_kv_heads"),
}
_EPSILON = {
    ".attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    ".attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
}
_EXPERTS = {
    ".expert_count": ("num_local_experts", "num_experts", "n_routed_experts"),
    ".expert_used_count": ("num_experts_per_tok", "num_experts_per_token", "top_k_experts"),
    ".expert_group_count": ("n_group",),
    ".expert_group_used_count": ("topk_group",),
}
_SCORE = ("score_function", "scoring_func", "score_func", "moe_router_activation")
_GATING = {"softmax": 1, "sigmoid": 2}


def write_common(pairs: Pairs, config: Config, rope: Rope, blocks: int) -> None:
    pairs.u32(".block_count", blocks)
    for key, names in _WHOLE.items():
        write_whole(pairs, key, config, *names)
    if config.values.get("is_causal") is False:
        pairs.flag(".attention.causal", False)
    rope.write(pairs)
    for key, names in _EPSILON.items():
        if (epsilon := config.number_or_none(*names)) is not None:
            pairs.f32(key, epsilon)
    for key, names in _EXPERTS.items():
        write_whole(pairs, key, config, *names)
    _write_gating(pairs, config)
    if (head_dim := config.whole_or_none("head_dim")) is not None:
        write_head_lengths(pairs, head_dim)


def write_whole(pairs: Pairs, key: str, config: Config, *names: str) -> None:
    """Writes the fact that has one of `names`, if it is there."""
    value = config.whole_or_none(*names)
    if value is not None and value < 0:
        raise BadConfig(f"config.json: {names[0]} is {value}")
    if value is not None:
        pairs.u32(key, value)


def write_head_lengths(pairs: Pairs, length: int) -> None:
    pairs.u32(".attention.key_length", length)
    pairs.u32(".attention.value_length", length)


def _write_gating(pairs: Pairs, config: Config) -> None:
    if (function := config.find(*_SCORE)) is None:
        return
    if not isinstance(function, str) or function not in _GATING:
        raise BadConfig(f"config.json: experts are chosen by the unknown function {function!r}")
    pairs.u32(".expert_gating_func", _GATING[function])
