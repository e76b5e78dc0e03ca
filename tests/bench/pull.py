"""`python -m tests.bench.pull`: a pull from a hub on loopback against its peers, in paired runs.

Peers: huggingface_hub's own download (neither hashes nor syncs), and curl followed by sha256sum.
The targets are ratios of at most 0.8, and less than 120 MiB of memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.fakehub import FakeHub
from tests.store.pull.xet_storage import xet_storage

TARGET = 0.8
MEMORY_LIMIT_MIB = 120
_BLOCK_BYTES = 1 << 20
_OURS = """
import json, sys, time
from pathlib import Path
from qm.store.leases import hold
from qm.store.pull.fetch import RepoFetch
from qm.store.pull.hub import list_repo
from qm.store.store import open_store
began = time.monotonic()
store = open_store(Path(sys.argv[1]))
listing = list_repo("org/big")
with hold(store.layout) as lease:
    RepoFetch(store, lease, listing, lambda step: None).fetch(listing.files)
spent = time.monotonic() - began
status = Path("/proc/self/status").read_text()  # getrusage would count what started us
rss = int(status.partition("VmHWM:")[2].split()[0]) / 1024
print(json.dumps({"s": spent, "rss": rss}))
"""
_THEIRS = """
import json, sys, time
from huggingface_hub import hf_hub_download
began = time.monotonic()
hf_hub_download("org/big", "model.gguf", cache_dir=sys.argv[1])
print(json.dumps({"s": time.monotonic() - began, "rss": 0}))
"""


def make_repo(root: Path, size_mib: int) -> str:
    """A file whose blocks all differ; its digest."""
    folder = root / "org/big"
    folder.mkdir(parents=True)
    block, digest = os.urandom(_BLOCK_BYTES - 8), hashlib.sha256()
    with (folder / "model.gguf").open("wb") as file:
        for number in range(size_mib):
            data = number.to_bytes(8, "big") + block
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


def in_python(code: str, endpoint: str, *, xet: bool = False) -> dict[str, float]:
    env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": str(int(not xet))}
    env["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    with tempfile.TemporaryDirectory() as directory:
        env["HF_HOME"] = directory
        done = subprocess.run(
            [sys.executable, "-c", code, f"{directory}/to"],
            env=env, capture_output=True, text=True, check=True,
        )  # fmt: skip
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def by_curl(endpoint: str) -> dict[str, float]:
    url = f"{endpoint}/org/big/resolve/main/model.gguf"
    with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        target = f"{directory}/model.gguf"
        subprocess.run(["curl", "-sfL", "-o", target, url], check=True)
        subprocess.run(["sha256sum", target], check=True, capture_output=True)
        return {"s": time.monotonic() - began, "rss": 0.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--xet", action="store_true", help="through hf_xet, qm alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        make_repo(Path(directory), options.mib)
        if options.xet:
            return report_xet(Path(directory), options.runs)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.fakehub", directory, "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        ) as hub:
            assert hub.stdout is not None
            endpoint = hub.stdout.readline().strip().partition("=")[2]
            try:
                return report(endpoint, options.runs)
            finally:
                hub.terminate()


def report_xet(repos: Path, runs: int) -> int:
    """Prints time and memory of pulls out of xet storage; 1 if the memory is too much."""
    file, missed = repos / "org/big/model.gguf", False
    with FakeHub(repos, xet=True) as hub, xet_storage(file) as storage:
        hub.xet_endpoint = storage.url
        for run in range(runs):
            hub.log.clear()
            told = in_python(_OURS, hub.url, xet=True)
            plain_bytes = hub.sent_bytes()
            print(
                f"run {run + 1}  xet {told['s']:6.2f} s, {told['rss']:.0f} MiB of memory"
                f" (limit {MEMORY_LIMIT_MIB}), {plain_bytes} bytes by the plain address",
                flush=True,
            )
            missed = missed or told["rss"] >= MEMORY_LIMIT_MIB or plain_bytes > 0
    return int(missed)


def report(endpoint: str, runs: int) -> int:
    """Prints every run and the medians; 1 if a target is missed."""
    contestants: dict[str, Callable[[], dict[str, float]]] = {
        "qm": lambda: in_python(_OURS, endpoint),
        "huggingface_hub": lambda: in_python(_THEIRS, endpoint),
        "curl + sha256sum": lambda: by_curl(endpoint),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    memory_mib = 0.0
    for run in range(runs):
        for name, contest in contestants.items():
            told = contest()
            seconds[name].append(told["s"])
            memory_mib = max(memory_mib, told["rss"])
            print(f"run {run + 1}  {name:<18} {told['s']:6.2f} s", flush=True)
    missed = memory_mib >= MEMORY_LIMIT_MIB
    print(f"memory of qm: {memory_mib:.0f} MiB (limit {MEMORY_LIMIT_MIB})")
    for name in list(contestants)[1:]:
        pairs = zip(seconds["qm"], seconds[name], strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        print(f"qm / {name}: {ratio:.2f} (target {TARGET}), median of {runs} pairs")
        missed = missed or ratio > TARGET
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
