"""The process behind a runner: starting it, signals to it, what the system and its log tell."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from ..turns import Seat
from .environment import runner_environment

LOG_TAIL_BYTES: Final = 2048
_HARMLESS: Final = "AMX is not ready to be used!"  # says ggml; isolation.py keeps it from AMX


class Child:
    """One child process whose output goes to `log_path`."""

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path, log_start: int) -> None:
        self._process = process
        self._log_path = log_path
        self._log_start = log_start

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Its exit status, once it is reaped; negative: the signal that ended it."""
        return await self._process.wait()

    def rss_bytes(self) -> int:
        """Resident memory of the child, 0 when it is gone or the system doesn't tell."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """CPU time that the child has used, 0 when it is gone or the system doesn't tell."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def signal(self, number: int) -> None:
        if self._process.returncode is None:
            try:
                self._process.send_signal(number)
            except ProcessLookupError:
                return  # it ended by itself just now

    def log_tail(self) -> str:
        """The end of what it has written."""
        try:
            with self._log_path.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - LOG_TAIL_BYTES))
                text = log.read().decode(errors="replace")
                return text.replace(_HARMLESS, "").strip()
        except OSError:
            return ""


def how_it_ended(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended with exit status {status}"
    return f"was killed by {signal.Signals(-status).name}"


async def start(log_path: Path, seat: Seat | None) -> tuple[socket.socket, Child]:
    """Our end of the socketpair, and the child that has the other."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        with theirs, log_path.open("ab") as log:
            log_start = log.tell()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "qm.daemon.runner", str(theirs.fileno())),
                *(seat.arguments if seat else ()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(), *((seat.fd,) if seat else ())),
                env=runner_environment(os.environ),
                start_new_session=True,  # a Ctrl-C in the daemon's terminal is not for runners
            )
    except BaseException:
        ours.close()
        raise
    return ours, Child(process, log_path, log_start)
