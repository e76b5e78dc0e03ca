"""HTTP by hand: whatever the pieces, the same answer; whatever breaks, a typed error."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from qm.cli.transport import DaemonGone, DaemonNotRunning, SocketUnusable, request

from .conftest import END, FakeDaemon, chunk

LENGTH_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Odd:  a:b \r\n\r\nhello"
CHUNKED_ANSWER = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunk(b"one\ntw")
    + chunk(b"o\n\nlast")
    + END
)


@pytest.mark.parametrize("cut", range(1, len(LENGTH_ANSWER)))
def test_a_body_of_known_length_is_read_whole(fake_daemon: FakeDaemon, cut: int) -> None:
    """It does not matter where the network cuts the answer."""
    fake_daemon.will_send(LENGTH_ANSWER[:cut], LENGTH_ANSWER[cut:])
    response = request(fake_daemon.socket, "GET", "/")
    assert (response.status, response.headers["x-odd"], response.read()) == (200, "a:b", b"hello")


@pytest.mark.parametrize("cut", range(1, len(CHUNKED_ANSWER)))
def test_lines_come_whole_out_of_chunks(fake_daemon: FakeDaemon, cut: int) -> None:
    """Lines that cross chunks are joined, empty ones dropped, a last one needs no newline."""
    fake_daemon.will_send(CHUNKED_ANSWER[:cut], CHUNKED_ANSWER[cut:])
    response = request(fake_daemon.socket, "GET", "/")
    assert list(response.lines()) == [b"one", b"two", b"last"]


@pytest.mark.parametrize("answer", [LENGTH_ANSWER, CHUNKED_ANSWER])
def test_a_cut_answer_is_the_daemon_gone(fake_daemon: FakeDaemon, answer: bytes) -> None:
    """An answer that stops anywhere before its end is an error, never a shorter answer."""
    for end in range(len(answer)):
        fake_daemon.will_send(answer[:end])
        with pytest.raises(DaemonGone):
            request(fake_daemon.socket, "GET", "/").read()


def test_nobody_listens(short_path: Path) -> None:
    """Neither a missing socket nor one that a killed daemon left behind is a daemon."""
    path = short_path / "qm.sock"
    with pytest.raises(DaemonNotRunning, match="qm serve"):
        request(path, "GET", "/")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(DaemonNotRunning):
        request(path, "GET", "/")


def test_a_path_too_long_is_said_so(short_path: Path) -> None:
    """The kernel's limit on socket paths is an error in words."""
    with pytest.raises(SocketUnusable, match="too long"):
        request(short_path / ("x" * 200), "GET", "/")


def test_a_silent_daemon_ends_the_wait(fake_daemon: FakeDaemon) -> None:
    """A limit on the wait holds, so that Tab completion never hangs."""
    with socket.socket(socket.AF_UNIX) as silent:
        path = fake_daemon.socket.with_name("silent.sock")
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(DaemonGone):
            request(path, "GET", "/", limit_s=0.01)
