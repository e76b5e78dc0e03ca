"""Whether another process has a file open."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path


def is_open_elsewhere(path: Path) -> bool:
    """True when somebody has the file open or mapped; False also where the system can't tell.

    Linux grants a write lease (fcntl(2), F_SETLEASE) only on a file that nobody else has open.
    Leases of the store protect blobs on every system; this is a second net.
    """
    if sys.platform != "linux":
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # Whoever opens the file at this moment sends us a signal: one that is ignored by default.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return True
    except OSError:  # another owner's file, or a file system without leases
        return False
    finally:
        os.close(fd)
    return False
