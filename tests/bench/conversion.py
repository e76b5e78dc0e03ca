"""How long qm takes to convert a repository, and how much memory, against llama.cpp's converter.

    .venv/bin/python tests/bench/conversion.py [--repository DIR] [--type f16|bf16|auto]

The peer is the convert_hf_to_gguf.py of the llama-cpp-python source, run by a Python that has torch
and transformers: $QM_PEERS (~/.cache/qm-peers) has them in `src/` and `oracle/`. Without
--repository, SmolLM2 is laid out as one. Medians of three paired runs, each from a cold process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAIRS = 3
ROOT = Path(__file__).parents[2]
PEERS = Path(os.environ.get("QM_PEERS", Path.home() / ".cache/qm-peers"))
OURS = """
import sys
from pathlib import Path
from qm.modelfiles.build.convert import convert
with open(sys.argv[2], "wb") as out:
    convert(Path(sys.argv[1]), out, out_type=sys.argv[3], name=Path(sys.argv[1]).name)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one process took."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def measured(command: Sequence[str]) -> Run:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    wall_s = time.perf_counter() - start
    return Run(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def commands(repository: Path, out: Path, out_type: str) -> tuple[list[str], list[str]]:
    """Ours, theirs."""
    script = next(PEERS.glob("src/*/vendor/llama.cpp/convert_hf_to_gguf.py"), None)
    if script is None:
        raise SystemExit(f"there is no convert_hf_to_gguf.py under {PEERS}/src; set QM_PEERS")
    ours = [sys.executable, "-c", OURS, str(repository), str(out / "ours.gguf"), out_type]
    theirs = [str(PEERS / "oracle/bin/python"), str(script), str(repository)]
    return ours, [*theirs, "--outfile", str(out / "theirs.gguf"), "--outtype", out_type]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path)
    parser.add_argument("--type", default="f16")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        repository = arguments.repository or out / "smollm2"
        if arguments.repository is None:
            script = ROOT / "tests/smollm2/make_repository.py"
            subprocess.run([sys.executable, script, repository], check=True)
        ours, theirs = commands(repository, out, arguments.type)
        pairs = [(measured(ours), measured(theirs)) for _ in range(PAIRS)]
        same = (out / "ours.gguf").read_bytes() == (out / "theirs.gguf").read_bytes()
    for name, unit in (("wall_s", "s"), ("cpu_s", "s"), ("peak_mib", "MiB")):
        mine = statistics.median(getattr(a, name) for a, _ in pairs)
        other = statistics.median(getattr(b, name) for _, b in pairs)
        ratio = statistics.median(getattr(a, name) / getattr(b, name) for a, b in pairs)
        print(f"{name:<9} qm {mine:8.2f} {unit:<3}  upstream {other:8.2f} {unit:<3}  {ratio:.2f}")
    print(f"the files are {'the same' if same else 'NOT the same'}")


if __name__ == "__main__":
    main()
