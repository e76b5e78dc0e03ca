"""A child process that must not outlive the daemon."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOWEST = 19
ORPHANED = 71  # exit status of a child whose daemon is gone


def die_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends; Linux only.

    Elsewhere the end of the socket to the parent tells: see `watch`.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what we read belongs into no core file


def stand_back() -> None:
    """Let this process compute only where nobody waits for an answer.

    Linux may weigh whole sessions against each other before it looks at the processes in them; one
    that this process leads stands back as a whole.
    """
    os.nice(_LOWEST)
    if os.getsid(0) != os.getpid():
        return
    try:
        Path("/proc/self/autogroup").write_text(str(_LOWEST))
    except OSError:
        return  # no such thing here; the process's own priority counts


def watch(connection: socket.socket) -> None:
    """End this process as soon as the other side of `connection` is closed."""

    def wait() -> None:
        while connection.recv(4096):
            pass  # nothing is expected, but it means that the parent lives
        os._exit(ORPHANED)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
