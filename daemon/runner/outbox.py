"""What the runner tells the daemon: frames that go out together, once a turn of the loop."""

from __future__ import annotations

import socket

from . import wire


class Outbox:
    """For one thread. What it can't send at once keeps that thread waiting."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames: list[bytes] = []

    def put(self, message: wire.FromRunner) -> None:
        """To be sent with the next `flush`."""
        self._frames.append(wire.encode(message))

    def flush(self) -> None:
        """Everything that this turn has to say, in one write."""
        if self._frames:
            self._connection.sendall(b"".join(self._frames))
            self._frames.clear()
