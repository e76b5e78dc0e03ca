"""Whether a worker answers, asked before llama.cpp does: that waits for ever or aborts."""

from __future__ import annotations

import socket
import struct
from typing import Final

ANSWER_LIMIT_S: Final = 5.0  # to connect, and for each part of the answer
_HELLO: Final = 14  # the protocol's first command, which keeps its number in all versions
_CAPABILITIES: Final = bytes(24)  # none
_VERSION_BYTES: Final = 4


def unanswered(endpoint: str, limit_s: float = ANSWER_LIMIT_S) -> str:
    """Why the worker at host:port is of no use; nothing when it greets back."""
    with socket.socket() as connection:
        connection.settimeout(limit_s)
        try:
            connection.connect(address_of(endpoint))
        except OSError as error:
            return f"can't be reached: {error.strerror or error}"
        try:
            hello = struct.pack("<BQ", _HELLO, len(_CAPABILITIES)) + _CAPABILITIES
            connection.sendall(hello)
            length = _read(connection, 8)
        except TimeoutError:
            return "it does not answer; a worker serves one model at a time, perhaps another qm's"
        except OSError as error:
            return f"it hung up: {error.strerror or error}"
    if length == struct.pack("<Q", _VERSION_BYTES + len(_CAPABILITIES)):
        return ""
    return "what answers there is no worker, or one of another version of llama.cpp"


def address_of(endpoint: str) -> tuple[str, int]:
    """Where a host:port is, by IPv4, which is all that llama.cpp's RPC knows. Raises OSError."""
    host, _, port = endpoint.rpartition(":")
    found = socket.getaddrinfo(host.encode(), int(port), socket.AF_INET, socket.SOCK_STREAM)
    address, number = found[0][4][:2]
    return str(address), int(number)


def _read(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer where there are no more."""
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data
