"""What stands between the network and a live daemon: keys, TLS, and limits of time and size."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def ask(
    host: str, method: str, path: str, key: str = "", body: object = None
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(host, timeout=30)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        connection.request(method, path, json.dumps(body or {}), headers)
        response = connection.getresponse()
        data = response.read()
        return response.status, json.loads(data) if data.startswith(b"{") else {}
    finally:
        connection.close()


def test_keys_open_what_their_scope_says(start_daemon: Callable[..., Any]) -> None:
    """`qm key add` closes every route over TCP at once; chat asks, manage changes."""
    daemon = start_daemon()
    host = daemon.json("GET", "/qm/status")["host"]
    assert ask(host, "GET", "/api/tags")[0] == 200
    chat = daemon.qm("key", "add", "plugin").stdout.strip()
    manage = daemon.qm("key", "add", "ops", "--scope", "manage").stdout.strip()
    listed = json.loads(daemon.qm("key", "list", "--json").stdout)
    assert [(key["name"], key["scopes"]) for key in listed] == [
        ("plugin", ["chat"]),
        ("ops", ["manage"]),
    ]
    for path in ("/", "/api/tags", "/v1/models", "/qm/status", "/nowhere"):
        assert ask(host, "GET", path)[0] == 401, path
        assert ask(host, "GET", path, "qm_wrong")[0] == 401, path
    assert ask(host, "GET", "/api/tags", chat)[0] == 200
    assert ask(host, "POST", "/v1/chat/completions", chat)[0] == 400
    for method, path in (
        ("POST", "/api/create"),
        ("POST", "/api/pull"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", f"/api/blobs/sha256:{'0' * 64}"),
        ("POST", "/qm/shutdown"),
        ("GET", "/qm/status"),
    ):
        status, answer = ask(host, method, path, chat)
        assert (status, "scope manage" in answer["error"]) == (403, True), path
    missing = {"source": "a", "destination": "b"}
    assert ask(host, "POST", "/api/copy", manage, missing)[0] == 404
    assert ask(host, "GET", "/qm/keys", manage)[0] == 403, "keys are made over the socket only"
    status, answer = ask(host, "POST", "/v1/messages")
    assert (status, answer["error"]["type"]) == (401, "authentication_error")
    assert daemon.qm("key", "rm", "plugin").returncode == 0
    assert ask(host, "GET", "/api/tags", chat)[0] == 401
    again = daemon.qm("key", "rm", "plugin")
    assert (again.returncode, "no key 'plugin'" in again.stderr) == (1, True)


def test_tls_by_certificate_files(start_daemon: Callable[..., Any], tmp_path: Path) -> None:
    """A client that trusts the certificate gets through; one without TLS gets nothing."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
        " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    subprocess.run(
        [*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    daemon = start_daemon(QM_TLS_CERT=str(certificate), QM_TLS_KEY=str(key))
    host = daemon.json("GET", "/qm/status")["host"]
    trusting = ssl.create_default_context(cafile=str(certificate))
    connection = http.client.HTTPSConnection(host, context=trusting, timeout=30)
    connection.request("GET", "/api/version")
    assert "version" in json.loads(connection.getresponse().read())
    connection.close()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(host, "GET", "/api/version")


def test_slow_requests_are_given_up(start_daemon: Callable[..., Any]) -> None:
    """Half a head, or half a body, holds a connection for the limit and no longer."""
    daemon = start_daemon(QM_READ_TIMEOUT="1s")
    name, port = daemon.json("GET", "/qm/status")["host"].split(":")
    heads = (b"", b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nX-A: ")
    for head in heads:
        with socket.create_connection((name, int(port)), timeout=20) as client:
            client.sendall(head)
            assert client.recv(1000) == b"", "closed without an answer"
    with socket.create_connection((name, int(port)), timeout=20) as client:
        client.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
    with socket.create_connection((name, int(port)), timeout=20) as client:
        request = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
        client.sendall(request * 3)  # pipelined
        seen = b""
        while seen.count(b"HTTP/1.1 200 OK") < 3:
            seen += client.recv(10_000)


def test_odd_requests_are_answered_or_closed(start_daemon: Callable[..., Any]) -> None:
    """Lying lengths, endless heads, half-closed sockets, too much body: the daemon lives on."""
    daemon = start_daemon(QM_MAX_BODY_BYTES="1KiB", QM_READ_TIMEOUT="2s")
    name, port = daemon.json("GET", "/qm/status")["host"].split(":")
    post = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n"
    for request, expected in (
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000, b"400"),
        (post + b"Content-Length: -5\r\n\r\n{}", b"400"),
        (post + b"Content-Length: 100000000\r\n\r\n{}", b"413"),
        (post + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"),
        (post + b"Content-Length: 1000\r\n\r\n" + b"[" * 1000, b"400"),
        (post + b'Content-Length: 4\r\n\r\n"\xff\xfe"', b"400"),
    ):
        with socket.create_connection((name, int(port)), timeout=20) as client:
            client.sendall(request)
            assert client.recv(1000)[9:12] == expected, request[:60]
    with socket.create_connection((name, int(port)), timeout=20) as client:
        client.sendall(post + b"Content-Length: 9\r\n\r\n")
        client.shutdown(socket.SHUT_WR)  # hung up in the middle
        assert client.recv(1000) == b""
    assert daemon.json("GET", "/api/tags") == {"models": []}
