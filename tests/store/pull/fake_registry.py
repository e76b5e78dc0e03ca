"""A registry that asks for tokens and misbehaves as a test tells it; every request is noted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    authorization: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """One answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Script: TypeAlias = Callable[[Asked], Said]


@dataclass(slots=True)
class FakeRegistry:
    """`script` answers; `asked` has what came."""

    host: str
    script: Script = lambda _: Said(404)
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}"


@contextmanager
def serving() -> Iterator[FakeRegistry]:
    """One on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, self.path, self.headers.get("Authorization"), body)
            registry.asked.append(asked)
            said = registry.script(asked)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in said.headers:
                self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = answer

        def log_message(self, *_arguments: object) -> None:
            """Quiet: the tests look at `asked`."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_arguments: object) -> None:
            """A client that hangs up is no error of ours."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry = FakeRegistry(f"127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def with_tokens(realm: str, inner: Script, token: str = "secret-token") -> Script:
    """Wants a bearer token from `realm`; `/token` hands it out."""

    def script(asked: Asked) -> Said:
        if asked.path.startswith("/token"):
            return Said(200, json.dumps({"token": token}).encode())
        if asked.authorization != f"Bearer {token}":
            challenge = f'Bearer realm="{realm}",service="registry"'
            return Said(401, b"{}", {"WWW-Authenticate": challenge})
        return inner(asked)

    return script
