"""HTTP/1.1 over a unix socket, as much as our own daemon speaks.

`http.client` would do, but importing it costs more time than `qm list` takes: it brings the whole
e-mail parser along.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from qm.store.errors import QmError, Unavailable

CONNECT_LIMIT_S = 5.0
_PIECE_BYTES = 65536


class DaemonNotRunning(Unavailable):
    """Nobody listens on the socket."""

    code = "daemon_not_running"

    def __init__(self, path: Path) -> None:
        super().__init__(f"the daemon is not running (nothing answers at {path}); try: qm serve")
        self.path = path


class DaemonGone(QmError):
    """The connection ended before the answer did."""

    code = "daemon_gone"

    def __init__(self) -> None:
        super().__init__(
            "the daemon went away in the middle of the answer; "
            "the next command starts a new one (what happened: qm logs)"
        )


class SocketUnusable(QmError):
    """The socket is there, but not for us: permissions, or a path that is too long."""

    code = "socket_unusable"


@dataclass(slots=True)
class Response:
    """Status, headers with lower-case names, and a body that is read at most once."""

    status: int
    headers: dict[str, str]
    _stream: BinaryIO
    _socket: socket.socket

    def read(self) -> bytes:
        """The whole body. Raises DaemonGone if it was cut short."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives; the connection is closed when this ends, however it ends."""
        try:
            yield from self._body()
        except OSError as error:
            raise DaemonGone from error
        finally:
            self.close()

    def lines(self) -> Iterator[bytes]:
        """The body's non-empty lines as they arrive. A last line without its newline counts."""
        rest = b""
        for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line for line in whole if line.strip())
        if rest.strip():
            yield rest

    def close(self) -> None:
        """Hang up; the daemon takes that as "stop"."""
        self._stream.close()
        self._socket.close()

    def _body(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("transfer-encoding", ""):
            yield from self._chunks()
            return
        left = int(self.headers.get("content-length", "0"))
        while left > 0:
            piece = self._exactly(min(left, _PIECE_BYTES))
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = int(_line(self._stream).split(b";")[0], 16)
            data = self._exactly(size) if size else b""
            _line(self._stream)  # the end of the chunk, or of the (empty) trailers
            if not size:
                return
            yield data

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise DaemonGone
        return data


def request(
    path: Path,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    limit_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Send one request and wait for the headers of its answer.

    Raises DaemonNotRunning, SocketUnusable, DaemonGone. `limit_s` bounds each wait for the daemon;
    None waits as long as it takes: a model may load for minutes.
    """
    connection = _connect(path)
    try:
        connection.settimeout(limit_s)
        connection.sendall(_head(method, target, len(body), headers or {}) + body)
        stream = connection.makefile("rb")
        status = int(_line(stream).split(b" ", 2)[1])
        return Response(status, _headers(stream), stream, connection)
    except OSError as error:
        connection.close()
        raise DaemonGone from error
    except BaseException:
        connection.close()
        raise


def listens(path: Path) -> bool:
    """Whether somebody takes connections there. Raises SocketUnusable."""
    try:
        _connect(path).close()
    except DaemonNotRunning:
        return False
    return True


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(CONNECT_LIMIT_S)
    try:
        connection.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        connection.close()
        raise DaemonNotRunning(path) from error
    except OSError as error:
        connection.close()
        raise SocketUnusable(f"can't talk to the daemon at {path}: {error}") from error
    return connection


def _head(method: str, target: str, body_bytes: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body_bytes:
        lines += ["Content-Type: application/json"]
    if body_bytes or method != "GET":
        lines += [f"Content-Length: {body_bytes}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _headers(stream: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    while line := _line(stream):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline(_PIECE_BYTES)
    if not line.endswith(b"\n"):
        raise DaemonGone
    return line.rstrip(b"\r\n")
