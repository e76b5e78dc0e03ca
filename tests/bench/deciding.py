"""`python -m tests.bench.deciding MODEL.gguf...`: how long placement takes to decide.

For each model and several contexts: once with nothing known of it, then with what llama.cpp said
kept; then a plan of the same file on a hub of our own, with how much is read for it. Starts a
daemon of its own; QM_RPC and QM_GPU_MEMORY hold for it. Times are those of the daemon's answers.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from qm.cli.client import Client, JsonObject

from tests.bench.footprint import QM, Figure
from tests.fakehub import FakeHub

KNOWN_MS, UNKNOWN_MS, READ_MB = 50.0, 2000.0, 20.0
CONTEXTS = (512, 4096, 8192)
AGAIN = 5
_BETWEEN_S = 1.0  # people don't ask at once again; a fresh probe is ready by then


def asked(client: Client, model: str, **options: object) -> tuple[float, JsonObject]:
    """How long a plan took in ms, and what it says."""
    began_s = time.perf_counter()
    told = client.post("/qm/plan", {"model": model, "options": options})
    return 1000 * (time.perf_counter() - began_s), told


def decisions(client: Client, model: str) -> Iterator[Figure]:
    """The slowest unknown, and the median of known."""
    unknown, known = [], []
    for n_ctx in CONTEXTS:
        time.sleep(_BETWEEN_S)
        took_ms, told = asked(client, model, num_ctx=n_ctx)
        assert told["measured"], told
        unknown.append(took_ms)
    for _ in range(AGAIN):
        for n_ctx in CONTEXTS:
            time.sleep(_BETWEEN_S)
            known.append(asked(client, model, num_ctx=n_ctx)[0])
    yield Figure(f"{model}: not known", max(unknown), UNKNOWN_MS, "ms")
    yield Figure(f"{model}: known", statistics.median(known), KNOWN_MS, "ms")


def remote(client: Client, model: str) -> Iterator[Figure]:
    """Of a model that is only on the hub."""
    took_ms, told = asked(client, f"hf.co/org/{model}")
    yield Figure(f"{model} on a hub", took_ms, UNKNOWN_MS, "ms")
    yield Figure(f"{model} on a hub: read", told["read_bytes"] / 1e6, READ_MB, "MB")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="qm-", dir="/tmp") as name:
        folder = Path(name)
        models = dict(zip((f"model{n}" for n in range(99)), map(Path, sys.argv[1:]), strict=False))
        for model, path in models.items():
            (folder / "repos/org" / model).mkdir(parents=True)
            (folder / "repos/org" / model / f"{model}-Q4_0.gguf").symlink_to(path.resolve())
        (folder / "qm.toml").touch()
        with FakeHub(folder / "repos") as hub:
            env = os.environ | {"QM_HOME": str(folder / "home"), "QM_HOST": "off"}
            env |= {"QM_CONFIG": str(folder / "qm.toml"), "QM_SOCKET": str(folder / "s")}
            env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf")}
            try:
                for model, path in models.items():
                    subprocess.run([QM, "create", model, "--from", path], env=env, check=True)
                client = Client(folder / "s")
                for model in models:
                    for figure in (*decisions(client, model), *remote(client, model)):
                        print(figure, flush=True)
            finally:
                subprocess.run([QM, "shutdown"], env=env, check=False, capture_output=True)


if __name__ == "__main__":
    main()
