"""`python -m tests.bench.store`: how quick the everyday commands are, against their targets.

A pull of something that is here already (hub and registry), the list of 1,000 models, and adopting
a 1 GiB file by link with its digest. Starts a daemon of its own; medians of whole commands.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from qm.store.image import Manifest
from qm.store.name import Name
from qm.store.store import open_store

from tests.bench.footprint import QM, Figure
from tests.fakehub import FakeHub
from tests.modelfiles.build.tiny_llama import write_tiny_llama
from tests.registry import running_registry

MODELS = 1000
PULL_S, LIST_S, ADOPT_S = 0.3, 0.2, 2.0
_BLOCK = 1 << 20


def command_s(env: dict[str, str], *arguments: str, runs: int) -> float:
    """Median wall time of a qm command, after one run that warms the caches."""
    times = []
    for _ in range(runs + 1):
        began_s = time.perf_counter()
        subprocess.run([QM, *arguments], env=env, capture_output=True, check=True)
        times.append(time.perf_counter() - began_s)
    return statistics.median(times[1:])


@contextmanager
def environment(folder: Path) -> Iterator[dict[str, str]]:
    """What qm needs to have a store, a hub and a daemon of its own."""
    (folder / "repos/org/tiny").mkdir(parents=True)
    write_tiny_llama(folder / "repos/org/tiny/tiny-F16.gguf")
    with FakeHub(folder / "repos") as hub:
        env = {k: v for k, v in os.environ.items() if not k.startswith("QM_")}
        env |= {"QM_HOME": str(folder / "home"), "QM_HOST": "off", "HF_ENDPOINT": hub.url}
        env |= {"QM_SOCKET": str(folder / "s"), "HF_HOME": str(folder / "hf")}
        try:
            yield env
        finally:
            subprocess.run([QM, "shutdown"], env=env, check=False, capture_output=True)


def pulls(env: dict[str, str], folder: Path, runs: int) -> Iterator[Figure]:
    """Of the same model again, from both sides."""
    spent_s = command_s(env, "pull", "hf.co/org/tiny", runs=runs)
    yield Figure("pull of what is here (hub)", spent_s * 1000, PULL_S * 1000, "ms")
    (folder / "registry").mkdir()
    with running_registry(folder / "registry") as registry:
        name = f"{registry.host}/org/tiny"
        subprocess.run([QM, "push", "--insecure", "hf.co/org/tiny", name], env=env, check=True)
        spent_s = command_s(env, "pull", "--insecure", name, runs=runs)
    yield Figure("pull of what is here (OCI)", spent_s * 1000, PULL_S * 1000, "ms")


def listing(env: dict[str, str], runs: int) -> Figure:
    """1,000 models that share their blobs."""
    store = open_store(Path(env["QM_HOME"]))
    stored = store.manifests.read(Name.parse("hf.co/org/tiny"))
    data = store.manifests.data(stored.name)
    for number in range(MODELS):
        name = Name.parse(f"org{number % 10}/model{number}:tag")
        store.manifests.write(name, Manifest.parse(data), data=data, ends_claims=False)
    spent_s = command_s(env, "list", runs=runs)
    return Figure(f"qm list, {MODELS:,} models", spent_s * 1000, LIST_S * 1000, "ms")


def adoption(env: dict[str, str], folder: Path, runs: int) -> Figure:
    """A fresh file each time: its digest is computed, its bytes are shared."""
    times, block = [], np.random.default_rng(1).bytes(_BLOCK)
    for run in range(runs):
        path = folder / f"big{run}.gguf"
        with path.open("wb") as file:
            file.write(b"GGUF" + run.to_bytes(4, "little"))
            file.writelines(block for _ in range((1 << 30) // _BLOCK))
            os.fsync(file.fileno())
        began_s = time.perf_counter()
        code = (
            "import sys; from pathlib import Path; from qm.cli.connect import connect;"
            "from qm.cli.sources import bring; bring(connect(), Path(sys.argv[1]))"
        )
        subprocess.run([sys.executable, "-c", code, path], env=env, check=True)
        times.append(time.perf_counter() - began_s)
        path.unlink()
    return Figure("adopt 1 GiB by link", statistics.median(times) * 1000, ADOPT_S * 1000, "ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="qm-b", dir="/tmp") as directory:
        folder = Path(directory)
        with environment(folder) as env:
            figures = [*pulls(env, folder, runs), listing(env, runs)]
            figures.append(adoption(env, folder, max(1, runs // 3)))
    for figure in figures:
        print(figure)
    return int(any(figure.value > figure.budget for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
