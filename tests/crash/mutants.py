"""Takes out one safeguard at a time and sees whether the campaigns notice: `python -m
tests.crash.mutants`. A mutant that survives is a promise without a test.

    python -m tests.crash.mutants 2/3     the second third of them
"""

from __future__ import annotations

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
        check = f"import sys; sys.path[:0] = [{str(tree / '.typing')!r}, {directory!r}]; "
        check += f"import pytest; sys.exit(pytest.main(['-q', '-x', {mutant.tests!r}]))"
        done = subprocess.run(
            [sys.executable, "-c", check], cwd=tree, capture_output=True, check=False, timeout=900
        )
    return done.returncode == 0


def main(part: str = "1/1") -> int:
    survivors, (number, parts) = [], map(int, part.split("/"))
    for mutant in MUTANTS[number - 1 :: parts]:
        lives = survives(mutant)
        print(f"{'SURVIVED' if lives else 'caught  '}  {mutant.name}", flush=True)  # noqa: T201
        survivors += [mutant.name] if lives else []
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
