"""One answer, as a person and as a pipe sees it."""

from __future__ import annotations

import io

import pytest
from qm.cli.answer import Answer, PlainPrinter, TerminalPrinter, stream_answer, timings_text
from qm.cli.client import Client, Refused
from qm.cli.progress import Spinner
from qm.cli.session import Session, user_message
from qm.cli.transport import DaemonGone

from .conftest import FakeDaemon, chunk

SESSION = Session("m").said(user_message("hi"))
DONE = {"done": True, "eval_count": 10, "eval_duration": 500_000_000}


def ask(daemon: FakeDaemon, printer: PlainPrinter | TerminalPrinter) -> Answer:
    """What stream_answer gives for the daemon's next answer."""
    return stream_answer(Client(daemon.socket), SESSION, printer, Spinner(io.StringIO()))


def piece(content: str = "", thinking: str = "") -> dict[str, object]:
    """One object of the stream."""
    return {"message": {"role": "assistant", "content": content, "thinking": thinking}}


def test_a_pipe_gets_the_answer_and_one_newline(fake_daemon: FakeDaemon) -> None:
    """Reasoning is no part of the result; nothing is changed in the text."""
    fake_daemon.will_stream(piece(thinking="hm"), piece("Hel"), piece("lo\x1b"), DONE)
    out = io.StringIO()
    answer = ask(fake_daemon, PlainPrinter(out))
    assert out.getvalue() == "Hello\x1b\n"
    assert answer == Answer("Hello\x1b", "hm", interrupted=False, metrics=DONE)


def test_a_pipe_gets_no_second_newline(fake_daemon: FakeDaemon) -> None:
    """An answer that ends its line is complete."""
    fake_daemon.will_stream(piece("a\n"), DONE)
    out = io.StringIO()
    ask(fake_daemon, PlainPrinter(out))
    assert out.getvalue() == "a\n"


def test_no_answer_prints_nothing(fake_daemon: FakeDaemon) -> None:
    """A refusal leaves stdout empty, in a pipe and on a terminal."""
    for printer in (PlainPrinter(out := io.StringIO()), TerminalPrinter(out, 80)):
        fake_daemon.will_answer({"error": "no"}, 400)
        with pytest.raises(Refused, match="no"):
            ask(fake_daemon, printer)
        assert out.getvalue() == ""


def test_a_person_sees_reasoning_apart(fake_daemon: FakeDaemon) -> None:
    """Dimmed, before the answer, and the terminal is back to normal after it."""
    fake_daemon.will_stream(piece(thinking="so"), piece("yes\x1b[31m"), DONE)
    out = io.StringIO()
    ask(fake_daemon, TerminalPrinter(out, 80))
    assert out.getvalue() == "\x1b[2mThinking…\nso\n…done thinking.\x1b[0m\n\nyes[31m\n\n"


def test_reasoning_can_be_hidden(fake_daemon: FakeDaemon) -> None:
    """It is still remembered."""
    fake_daemon.will_stream(piece(thinking="so"), piece("yes"), DONE)
    out = io.StringIO()
    answer = ask(fake_daemon, TerminalPrinter(out, None, hide_thinking=True))
    assert (out.getvalue(), answer.thinking) == ("yes\n\n", "so")


def test_a_killed_daemon_is_an_error_after_what_came(fake_daemon: FakeDaemon) -> None:
    """What was said stays on the screen, ended by a newline."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    fake_daemon.will_send(head, chunk(b'{"message":{"content":"half"}}\n'))
    out = io.StringIO()
    with pytest.raises(DaemonGone):
        ask(fake_daemon, PlainPrinter(out))
    assert out.getvalue() == "half\n"


def test_ctrl_c_keeps_what_was_said_and_hangs_up(fake_daemon: FakeDaemon) -> None:
    """The answer so far is part of the conversation."""

    class Interrupting(PlainPrinter):
        def content(self, text: str) -> None:
            super().content(text)
            raise KeyboardInterrupt

    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    line = chunk(b'{"message":{"content":"x"}}\n')
    fake_daemon.will_send(head, *[line] * 1_000_000)
    answer = ask(fake_daemon, Interrupting(io.StringIO()))
    assert (answer.content, answer.interrupted) == ("x", True)
    assert fake_daemon.hung_up.wait(10)


def test_timings_name_counts_and_rates() -> None:
    """A phase that took no time has no rate."""
    text = timings_text(DONE | {"total_duration": 1_500_000_000})
    assert "total duration:       1.50 s" in text
    assert "eval rate:            20.00 tokens/s" in text
    assert "prompt eval rate" not in text
