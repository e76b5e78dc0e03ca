"""The daemon's answers as objects and typed errors."""

from __future__ import annotations

import pytest
from qm.cli.client import Client, Refused
from qm.cli.transport import DaemonGone

from .conftest import FakeDaemon, chunk

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_document(fake_daemon: FakeDaemon) -> None:
    """GET gives the JSON object; POST sends one, non-ASCII text unharmed."""
    fake_daemon.will_answer({"models": []})
    fake_daemon.will_answer({"ok": "ja"})
    client = Client(fake_daemon.socket)
    assert client.get("/api/tags") == {"models": []}
    assert client.post("/api/copy", {"source": "grün"}) == {"ok": "ja"}
    assert fake_daemon.bodies() == [{"source": "grün"}]
    assert fake_daemon.requests[0].startswith(b"GET /api/tags HTTP/1.1\r\n")


def test_an_empty_answer_is_an_empty_object(fake_daemon: FakeDaemon) -> None:
    """As /api/copy answers."""
    fake_daemon.will_send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert Client(fake_daemon.socket).post("/api/copy", {}) == {}


def test_a_refusal_has_the_daemons_words(fake_daemon: FakeDaemon) -> None:
    """JSON errors and the plain text of 404 alike."""
    fake_daemon.will_send(
        b"HTTP/1.1 404 No\r\nX-Qm-Hint: try: qm pull x\r\nContent-Length: 33\r\n\r\n"
        b'{"error": "model \'x\' not found" }'
    )
    fake_daemon.will_send(b"HTTP/1.1 405 No\r\nContent-Length: 22\r\n\r\n405 method not allowed")
    client = Client(fake_daemon.socket)
    with pytest.raises(Refused, match="model 'x' not found; try: qm pull x") as refused:
        client.post("/api/show", {"model": "x"})
    assert refused.value.http_status == 404
    with pytest.raises(Refused, match="405 method not allowed"), client.stream("/", {}):
        pytest.fail("a refused stream has no items")


def test_an_error_in_the_middle_of_a_stream(fake_daemon: FakeDaemon) -> None:
    """What came before it is there, then the error is raised."""
    fake_daemon.will_stream({"n": 1}, {"error": "the runner crashed"})
    seen = []
    with (
        pytest.raises(Refused, match="the runner crashed"),
        Client(fake_daemon.socket).stream("/api/chat", {}) as items,
    ):
        for item in items:
            seen.append(item)  # noqa: PERF402  the list must survive the error
    assert seen == [{"n": 1}]


def test_a_stream_that_just_stops_is_the_daemon_gone(fake_daemon: FakeDaemon) -> None:
    """A killed daemon never looks like the end of an answer."""
    fake_daemon.will_send(HEAD, chunk(b'{"n": 1}\n'))
    with pytest.raises(DaemonGone), Client(fake_daemon.socket).stream("/", {}) as items:
        list(items)


def test_leaving_a_stream_hangs_up(fake_daemon: FakeDaemon) -> None:
    """The daemon notices, and stops generating."""
    line = chunk(b'{"n": 1}\n')
    fake_daemon.will_send(HEAD, *[line] * 1_000_000)
    with Client(fake_daemon.socket).stream("/", {}) as items:
        assert next(iter(items)) == {"n": 1}
    assert fake_daemon.hung_up.wait(10)
