"""A forward proxy on loopback that notes whom it was asked for: absolute addresses and CONNECT."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_BLOCK = 1 << 16
_LIMIT_S = 30.0


@dataclass
class Proxy:
    """`asked` are the targets, `passwords` what came in Proxy-Authorization."""

    url: str
    asked: list[str] = field(default_factory=list)
    passwords: list[str] = field(default_factory=list)


@contextmanager
def loopback_proxy() -> Iterator[Proxy]:
    proxy = Proxy("")

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = self.rfile.readline()
                if not line:
                    return
                head += line
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            proxy.asked.append(f"{method} {target}")
            for text in head.decode("latin-1").splitlines():
                name, _, value = text.partition(": ")
                if name.lower() == "proxy-authorization":
                    proxy.passwords.append(value)
            self._forward(method, target, head)

        def _forward(self, method: str, target: str, head: bytes) -> None:
            parts = urlsplit(target if "://" in target else f"//{target}")
            assert parts.hostname is not None
            with socket.create_connection((parts.hostname, parts.port or 80), _LIMIT_S) as other:
                if method == "CONNECT":
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    path = target.split(parts.netloc, 1)[1] or "/"
                    lines = head.split(b"\r\n")
                    lines[0] = f"{method} {path} HTTP/1.1".encode()
                    kept = [one for one in lines if not one.lower().startswith(b"connection:")]
                    kept.insert(1, b"Connection: close")
                    other.sendall(b"\r\n".join(kept))
                self._shuttle(other)

        def _shuttle(self, other: socket.socket) -> None:
            pairs = {self.connection: other, other: self.connection}
            while True:
                ready, _, _ = select.select(list(pairs), [], [], _LIMIT_S)
                for one in ready:
                    data = one.recv(_BLOCK)
                    if not data:
                        return
                    pairs[one].sendall(data)
                if not ready:
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_about: object) -> None:
            """Clients that hang up are none of ours."""

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.url = f"http://user:secret@127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield proxy
        server.shutdown()
        thread.join()
