"""What the tests of every build ask a daemon."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

MIB = 1 << 20
ASK = {"model": "smollm2", "prompt": "The capital of France is", "raw": True, "stream": False}
EXACT = {"num_predict": 8, "temperature": 0, "seed": 1}


def ask(daemon: LiveDaemon, model: str = "smollm2", **options: object) -> str:
    body = ASK | {"model": model, "options": EXACT | options}
    return str(daemon.json("POST", "/api/generate", body)["response"])


def loaded(daemon: LiveDaemon) -> Any:  # Any: a JSON document
    (row,) = daemon.json("GET", "/api/ps")["models"]
    return row


def n_devices_foreseen(daemon: LiveDaemon) -> int:
    """Loads both models in every context and KV type: each device and the total must hold what was
    predicted, within 2 % or 16 MiB. How many devices had layers at most.
    """
    most = 0
    for model, n_ctx, kv_type in itertools.product(
        ("smollm2", "gemma3"), (512, 4096, 8192), ("f16", "q8_0")
    ):
        ask(daemon, model, num_ctx=n_ctx, kv_type=kv_type, num_predict=1)
        row = loaded(daemon)
        own = row["qm"]
        for one in (*own["devices"], own):
            limit = max(16 * MIB, one["actual_bytes"] * 0.02)
            off = abs(one["predicted_bytes"] - one["actual_bytes"])
            assert off <= limit, f"{model} {n_ctx} {kv_type}: {one}"
        assert 0 < row["size_vram"] < row["size"]
        assert row["context_length"] == n_ctx
        most = max(most, len(own["devices"]))
        assert daemon.qm("stop", model).returncode == 0
    return most
