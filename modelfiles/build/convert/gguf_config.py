"""What a GGUF says about its model, put as a config.json: enough to convert an adapter for it."""

from __future__ import annotations

import json

from qm.store.gguf import Header

from .errors import BadConfig, UnknownArchitecture
from .families import family_named

# of a config.json, by what families ask for, and of a GGUF, below its architecture's name
_NUMBERS = {
    ("hidden_size", "n_embd"): "embedding_length",
    ("num_hidden_layers", "n_layer"): "block_count",
    ("num_attention_heads", "n_head"): "attention.head_count",
    ("num_key_value_heads",): "attention.head_count_kv",
    ("head_dim",): "attention.key_length",
    ("intermediate_size",): "feed_forward_length",
    ("max_position_embeddings",): "context_length",
}


def config_of_gguf(header: Header) -> bytes:
    """The same bytes for the same header. Raises UnknownArchitecture and BadConfig."""
    family = family_named(header.architecture or "")
    if family is None:
        raise UnknownArchitecture(f"the GGUF's {header.architecture}")
    config: dict[str, object] = {"architectures": [family.architectures[0]]}
    for names, key in _NUMBERS.items():
        value = header.of_architecture(key)
        if value is not None:
            config |= dict.fromkeys(names, value)
        elif f"{header.architecture}.{key}" in header.metadata:
            raise BadConfig(f"the GGUF has a {key} for each layer, which no adapter can be for")
    return json.dumps(config, sort_keys=True).encode()
