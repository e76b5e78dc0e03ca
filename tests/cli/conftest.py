"""A small real HTTP server on a unix socket, in place of the daemon."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class FakeDaemon:
    """Answers each connection with the next raw answer, in the pieces that it is given in."""

    socket: Path
    answers: list[list[bytes]] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)

    def will_send(self, *pieces: bytes) -> None:
        """The next answer; the connection ends after it."""
        self.answers.append(list(pieces))

    def will_answer(self, document: object, status: int = 200) -> None:
        """The next answer, a JSON document."""
        body = json.dumps(document).encode()
        self.will_send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)

    def will_stream(self, *items: object) -> None:
        """The next answer, chunked, one JSON line a chunk."""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.will_send(head, *(chunk(json.dumps(item).encode() + b"\n") for item in items), END)

    def bodies(self) -> list[object]:
        """The JSON that was asked, empty bodies left out."""
        texts = (request.partition(b"\r\n\r\n")[2] for request in self.requests)
        return [json.loads(text) for text in texts if text]


END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def _serve(listener: socket.socket, daemon: FakeDaemon) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            if request := _read_request(connection):
                daemon.requests.append(request)
                _send(connection, daemon)


def _read_request(connection: socket.socket) -> bytes:
    """A whole request, or nothing from who only wanted to see whether we are there."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if b"content-length" in line.lower()
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def _send(connection: socket.socket, daemon: FakeDaemon) -> None:
    for piece in daemon.answers.pop(0):
        try:
            connection.sendall(piece)
        except OSError:
            daemon.hung_up.set()
            return


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path is short enough for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="qm", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def fake_daemon(short_path: Path) -> Iterator[FakeDaemon]:
    """A server that says what the test tells it to."""
    daemon = FakeDaemon(short_path / "qm.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(daemon.socket))
    listener.listen()
    thread = threading.Thread(target=_serve, args=(listener, daemon))
    thread.start()
    yield daemon
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
