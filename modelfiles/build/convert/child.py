"""Child processes for foreign code: no secrets in their environment, no network, no core files.

`python -m qm.modelfiles.build.convert.child MODULE ARGUMENT…` is such a process: it gives up what
it can do, then runs the module.
"""

from __future__ import annotations

import ctypes
import os
import resource
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import ConversionError

_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH")
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_SHOWN_BYTES = 2000


class ChildFailed(ConversionError):
    """The other program gave up; its last words are in the message."""

    code = "child_failed"


def run_module(module: str, arguments: Sequence[str], scratch: Path, what: str) -> None:
    """Runs a module of this Python, at home in `scratch`; raises ChildFailed if it fails."""
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    env |= {"HOME": str(scratch), "TMPDIR": str(scratch), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-m", __name__, module, *arguments],
        env=env,
        cwd=scratch,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if result.returncode:
        words = result.stderr[-_SHOWN_BYTES:].decode(errors="replace").strip().splitlines()
        last = words[-1] if words else f"exit status {result.returncode}"
        raise ChildFailed(f"{what} failed: {last}")


def main() -> None:
    """Confines this process and becomes the module that the command line names."""
    _confine()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _confine() -> None:
    """What a system lacks is left out."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.unshare(_NEW_NETWORK if os.geteuid() == 0 else _NEW_USER | _NEW_NETWORK)


if __name__ == "__main__":
    main()
