"""Records what llama.cpp's own tools make of the tiny model, and say about it.

    python -m tests.modelfiles.build.record [quantize measured] [--bin ~/.cache/qm-peers/build/bin]

The tools are those of the llama.cpp inside llama-cpp-python 0.3.36, compiled without AMX, whose
kernels round otherwise. Writes `recorded/quantize.json` and `recorded/measured.json`. What a run
that was cut off had found lies in `--scratch`, and the next one goes on from there.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from qm.modelfiles.build.imatrix_file import Entry, Imatrix, pack_imatrix, read_imatrix
from qm.modelfiles.build.texts import EVALUATION
from qm.modelfiles.quantization import FILE_TYPES

from tests.modelfiles.build.tiny_llama import columns, matrix_names, write_tiny_llama

HERE = Path(__file__).parent
PARTS = ("quantize", "measured")
ATTEMPTS = 50
OPTIONS = {
    "Q4_K_M pure": ("Q4_K_M", ["--pure"]),
    "Q4_K_M output=Q8_0 embedding=Q5_K": (
        "Q4_K_M",
        ["--output-tensor-type", "q8_0", "--token-embedding-type", "q5_k"],
    ),
    "Q4_K_M attn_v=Q6_K": ("Q4_K_M", ["--tensor-type", "attn_v=q6_k"]),
}
CHUNK = ["-b", "512", "-c", "512"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=PARTS, help=" ".join(PARTS))
    parser.add_argument("--bin", type=Path, default=Path("~/.cache/qm-peers/build/bin"))
    parser.add_argument("--scratch", type=Path, default=Path("~/.cache/qm-peers/recording"))
    args = parser.parse_args()
    tools, scratch = args.bin.expanduser(), args.scratch.expanduser()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_tiny_llama(work / "tiny.gguf")
        (work / "text.txt").write_bytes(EVALUATION.data[:3000])
        (work / "imatrix.gguf").write_bytes(made_up_matrix())
        if "quantize" in args.parts:
            write("quantize", quantised(tools, work, scratch / "quantize.json"))
        if "measured" in args.parts:
            write("measured", measured(tools, work))


def write(name: str, recorded: dict[str, Any]) -> None:
    path = HERE / "recorded" / f"{name}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(recorded, indent=1) + "\n")
    changed = [key for key in recorded if recorded[key] != before.get(key)]
    print(name, f"{len(recorded)} entries, changed: {', '.join(changed) or 'none'}")


def made_up_matrix() -> bytes:
    """As test_quantise.py makes it."""
    entries = {}
    for number, name in enumerate(matrix_names()):
        sums = 4 * (1 + (np.arange(columns(name)) * 7 + number) % 13)
        entries[name] = Entry(sums.astype(np.float32).reshape(1, -1), np.array([4], np.float32))
    return pack_imatrix(Imatrix(entries, ("text",), 2, 512))


def quantised(tools: Path, work: Path, found_path: Path) -> dict[str, Any]:
    """The digest of every file; None where llama-quantize refuses."""
    found: dict[str, Any] = json.loads(found_path.read_text()) if found_path.exists() else {}
    found_path.parent.mkdir(parents=True, exist_ok=True)
    orders = {f"{kind} plain": (kind, list[str]()) for kind in FILE_TYPES}
    orders |= {f"{kind} imatrix": (kind, ["--imatrix", "imatrix.gguf"]) for kind in FILE_TYPES}
    orders |= OPTIONS
    for number, (words, (kind, options)) in enumerate(orders.items(), 1):
        if words not in found:
            found[words] = quantise(tools, work, kind, options)
            found_path.write_text(json.dumps(found))
            print(f"{number}/{len(orders)} {words}", flush=True)
    found_path.unlink()
    in_order = (f"{kind} {how}" for kind in FILE_TYPES for how in ("plain", "imatrix"))
    return {words: found[words] for words in (*in_order, *OPTIONS)}


def quantise(tools: Path, work: Path, kind: str, options: list[str]) -> str | None:
    target = work / "out.gguf"
    command = [str(tools / "llama-quantize"), *options, "tiny.gguf", "out.gguf", kind]
    done = subprocess.run(command, cwd=work, capture_output=True, check=False)
    return None if done.returncode else sha256(target.read_bytes()).hexdigest()


def measured(tools: Path, work: Path) -> dict[str, Any]:
    text = ["-f", "text.txt", *CHUNK]
    final = r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)"
    said = told(tools, work, ["-m", "tiny.gguf", *text], final)
    perplexity, error = numbers(said, final)
    quantise(tools, work, "Q4_K_M", [])
    base = ["--kl-divergence-base", "base.logits"]
    run(tools, work, "llama-perplexity", ["-m", "tiny.gguf", *text, *base])
    said = told(
        tools, work, ["-m", "out.gguf", *text, *base, "--kl-divergence"], r"Same top p:\s*[\d.]+"
    )
    q4 = {
        "perplexity": numbers(said, r"Mean PPL\(Q\)\s*:\s*([\d.]+)")[0],
        "kld_mean": numbers(said, r"Mean\s+KLD:\s*([\d.]+)")[0],
        "kld_p99": numbers(said, r"99\.0%\s+KLD:\s*([\d.]+)")[0],
        "top1_agreement": round(numbers(said, r"Same top p:\s*([\d.]+)")[0] / 100, 5),
    }
    run(tools, work, "llama-imatrix", ["-m", "tiny.gguf", *text, "-o", "theirs.gguf"])
    imatrix = read_imatrix(work / "theirs.gguf")
    return {
        "perplexity": perplexity,
        "perplexity_error": error,
        "q4": q4,
        "imatrix": {
            "chunk_count": imatrix.chunk_count,
            "counts": {name: one.counts.tolist() for name, one in imatrix.entries.items()},
            "norms": {
                name: float(np.linalg.norm(one.sums.astype(float)))
                for name, one in imatrix.entries.items()
            },
            "first": {
                name: [float(each) for each in one.sums.ravel()[:4]]
                for name, one in imatrix.entries.items()
            },
        },
    }


def told(tools: Path, work: Path, options: list[str], last: str) -> str:
    """What llama-perplexity says with `last` in it: it often ends before it has printed all."""
    for _ in range(ATTEMPTS):
        said = run(tools, work, "llama-perplexity", options)
        if re.search(last, said):
            return said
    raise SystemExit(f"llama-perplexity said nothing like {last} in {ATTEMPTS} runs")


def run(tools: Path, work: Path, tool: str, options: list[str]) -> str:
    done = subprocess.run(
        [str(tools / tool), *options], cwd=work, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def numbers(said: str, pattern: str) -> list[float]:
    match = re.search(pattern, said)
    if match is None:
        raise SystemExit(f"the tool said nothing like {pattern}")
    return [float(each) for each in match.groups()]


if __name__ == "__main__":
    main()
