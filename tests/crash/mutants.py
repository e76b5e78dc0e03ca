"""Takes out one safeguard at a time and sees whether the campaigns notice: `python -m
tests.crash.mutants`. A mutant that survives is a promise without a test.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("cli", "daemon", "modelfiles", "store", "tests", ".typing", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One safeguard less: `text` of `file` becomes `instead`; these `tests` must fail."""

    name: str
    file: str
    text: str
    instead: str
    tests: str


MUTANTS = (
    Mutant(
        "a download is published without looking at its digest",
        "store/pull/download.py",
        "        if not sound:\n",
        "        if False:\n",
        "tests/store/pull/test_fetch.py",
    ),
    Mutant(
        "what a journal says of another boot is believed",
        "store/pull/partial.py",
        'same_boot = bool(boot) and lines[0].get("boot") == boot',
        "same_boot = True",
        "tests/store/pull/test_decisions.py",
    ),
    Mutant(
        "beginnings are not compared on resuming",
        "store/pull/front.py",
        "if known not in (None, found):",
        "if False:",
        "tests/store/pull/test_resume.py",
    ),
    Mutant(
        "two processes write one partial file",
        "store/pull/partial.py",
        "if try_lock(fd) and _is_there(path, fd):",
        "if True:",
        "tests/store/pull/test_decisions.py",
    ),
    Mutant(
        "bytes are noted before they are written",
        "store/pull/fetching.py",
        "                self._write(view[:n_bytes], offset)\n                offset += n_bytes\n",
        "                offset += n_bytes\n",
        "tests/store/pull/test_fetch.py",
    ),
    Mutant(
        "a range of other bytes is written where ours belong",
        "store/pull/fetching.py",
        "if match is None or (int(match[1]), int(match[3])) != (task.start, self.work.size_bytes):",
        "if match is None:",
        "tests/store/pull/test_fetch.py",
    ),
    Mutant(
        "the data is not synced before it is published",
        "store/pull/partial.py",
        "            sync_file(self.data_fd)\n",
        "            pass\n",
        "tests/store/pull/test_resume.py",
    ),
    Mutant(
        "a new blob's directory is not synced",
        "store/publish.py",
        "    layout.watch(digest).unlink(missing_ok=True)  # left by an adoption that died before "
        "its link\n    sync_directory(layout.blobs)\n",
        "    layout.watch(digest).unlink(missing_ok=True)\n",
        "tests/store/pull/test_resume.py",
    ),
    Mutant(
        "no lease guards what is being pulled",
        "store/leases.py",
        "            if fd is not None and not try_lock(fd):\n",
        "            if False:\n",
        "tests/store/test_gc.py",
    ),
    Mutant(
        "the token goes wherever the hub sends us",
        "store/pull/hub.py",
        "            return Located(url, {}, xet)\n",
        "            return Located(url, own, xet)\n",
        "tests/store/pull/test_tokens.py",
    ),
    Mutant(
        "the token asks for a pass to xet storage wherever the hub says",
        "store/pull/hub.py",
        "return XetFile(found.file_hash, pass_url) if Origin.of(pass_url) == home else None",
        "return XetFile(found.file_hash, pass_url)",
        "tests/store/pull/test_xet.py",
    ),
    Mutant(
        "what xet storage sends is noted before it is written",
        "store/pull/streaming.py",
        "self.partial.write(memoryview(piece), self._came_bytes, self.label, missing_bytes)",
        "pass",
        "tests/store/pull/test_xet.py",
    ),
    Mutant(
        "what the journal calls synced was not synced",
        "store/pull/download.py",
        "                self._partial.sync()\n                synced_bytes = here.total\n",
        "                synced_bytes = here.total\n",
        "tests/crash/test_pull_powerloss.py",
    ),
    Mutant(
        "a store is moved without looking at what was copied",
        "store/transplant.py",
        "                if hash_file(fd) != digest:\n",
        "                if False:\n",
        "tests/store/test_move.py",
    ),
    Mutant(
        "a store is moved under an upload",
        "store/move.py",
        "        _refuse_busy(move.source)\n",
        "",
        "tests/store/test_move.py",
    ),
    Mutant(
        "an unfinished move is as good as a store",
        "store/location.py",
        "            _refuse_unfinished(root)\n",
        "",
        "tests/store/test_move.py",
    ),
    Mutant(
        "the home's pointer comes before the blobs",
        "store/move.py",
        "        _transplant(move, None).everything(exactly=True)\n"
        "        write_pointer(move.home, move.target.root)\n",
        "        write_pointer(move.home, move.target.root)\n"
        "        _transplant(move, None).everything(exactly=True)\n",
        "tests/store/test_move.py",
    ),
    Mutant(
        "private addresses are as good as public ones",
        "store/pull/addresses.py",
        '        if not allowed:\n            raise _forbidden(url, f"{origin.host} is no public',
        '        if not found:\n            raise _forbidden(url, f"{origin.host} is no public',
        "tests/store/pull/test_addresses.py",
    ),
)


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


def main() -> int:
    survivors = []
    for mutant in MUTANTS:
        lives = survives(mutant)
        print(f"{'SURVIVED' if lives else 'caught  '}  {mutant.name}", flush=True)  # noqa: T201
        survivors += [mutant.name] if lives else []
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
