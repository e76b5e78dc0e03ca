"""What a GGUF holds, short enough to be written down."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from gguf import GGUFReader


def described(path: Path) -> dict[str, Any]:
    """Pairs and tensors of a GGUF, long ones as digests."""
    reader = GGUFReader(path)
    pairs = {
        name: pair(field) for name, field in reader.fields.items() if not name.startswith("GGUF.")
    }
    tensors = {
        tensor.name: [
            tensor.tensor_type.name,
            [int(n) for n in reversed(tensor.shape)],
            digest(tensor.data.tobytes()),
        ]
        for tensor in reader.tensors
    }
    return {"pairs": pairs, "tensors": tensors}


def pair(field: Any) -> list[Any]:
    value = field.contents()
    if isinstance(value, list) and len(value) > 16:
        value = f"{len(value)} {digest(json.dumps(value).encode())}"
    return ["/".join(kind.name for kind in field.types), value]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
