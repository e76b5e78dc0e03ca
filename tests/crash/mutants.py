"""Takes out one safeguard at a time and sees whether the campaigns notice: `python -m
tests.crash.mutants`. A mutant that survives is a promise without a test.

    python -m tests.crash.mutants 2/3     every third, from the second on
    python -m tests.crash.mutants synced  those whose name has the word
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.crash.safeguards import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
FOLDERS = ("cli", "daemon", "modelfiles", "store", "tests", ".typing", "pyproject.toml")


def survives(mutant: Mutant) -> bool:
    """Whether all tests pass without the safeguard."""
    with tempfile.TemporaryDirectory(prefix="qm-mutant-") as directory:
        tree = Path(directory)
        for name in FOLDERS:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, symlinks=True)
            else:
                shutil.copy(source, tree / name)
        path = tree / mutant.file
        code = path.read_text()
        if mutant.text not in code:
            sys.exit(f"{mutant.file} has changed: mend the mutant {mutant.name!r}")
        path.write_text(code.replace(mutant.text, mutant.instead))
        # for the processes that tests start, too
        env = os.environ | {"PYTHONPATH": f"{tree / '.typing'}{os.pathsep}{tree}"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", mutant.tests],
            cwd=tree,
            env=env,
            capture_output=True,
            check=False,
            timeout=900,
        )
    return done.returncode == 0


def chosen(which: str) -> tuple[Mutant, ...]:
    number, slash, parts = which.partition("/")
    if slash:
        return MUTANTS[int(number) - 1 :: int(parts)]
    return tuple(mutant for mutant in MUTANTS if which in mutant.name)


def main(which: str = "") -> int:
    survivors = []
    for mutant in chosen(which):
        lives = survives(mutant)
        print(f"{'SURVIVED' if lives else 'caught  '}  {mutant.name}", flush=True)  # noqa: T201
        survivors += [mutant.name] if lives else []
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
