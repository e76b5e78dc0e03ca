"""Workers are greeted before llama.cpp asks them anything."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from qm.daemon.runner.greeting import unanswered

LIMIT_S = 60.0
_GREETING_BYTES = 33  # command, length, capabilities


@contextmanager
def answering(answer: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads a greeting and answers this, then hangs up; None: it only listens."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as stream:
                heard.append(stream.read(_GREETING_BYTES))
                connection.sendall(answer or b"")

        thread = threading.Thread(target=serve)
        if answer is not None:
            thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", heard
        if answer is not None:
            thread.join(LIMIT_S)


def test_a_worker_that_greets_back_is_of_use() -> None:
    """It is greeted as llama.cpp does it, and told no more."""
    with answering(struct.pack("<Q", 28) + bytes(28)) as (endpoint, heard):
        assert unanswered(endpoint, LIMIT_S) == ""
    assert heard == [b"\x0e" + struct.pack("<Q", 24) + bytes(24)]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request", b"\0" * 8, b"", b"abc"])
def test_what_answers_otherwise_is_no_worker(answer: bytes) -> None:
    """llama.cpp would abort on it."""
    with answering(answer) as (endpoint, _):
        assert "no worker" in unanswered(endpoint, LIMIT_S)


def test_one_that_is_busy_or_hangs_is_told() -> None:
    """The system takes the connection, and nobody answers: llama.cpp would wait for ever."""
    with answering(None) as (endpoint, _):
        assert "serves one model at a time" in unanswered(endpoint, 0.2)


def test_one_that_is_not_there_is_told() -> None:
    """With the system's reason."""
    assert "can't be reached: Connection refused" in unanswered("127.0.0.1:1", LIMIT_S)


@pytest.mark.parametrize("host", ["a" * 70, "nobody.invalid", "::1"])
def test_a_name_that_means_nothing_is_told(host: str) -> None:
    """Also one that no name server could be asked for."""
    assert "can't be reached: " in unanswered(f"{host}:50052", LIMIT_S)
