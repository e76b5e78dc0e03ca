"""The conversation on a real terminal, with the real model."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

QM = Path(sys.executable).with_name("qm")
CTRL_C, CTRL_D, CTRL_J = "\x03", "\x04", "\n"
ENTER = "\r"
READY = "\x1b[?2004h"  # bracketed paste: switched on once when a line can be typed, off after it
# The terminal of a test answers no questions about its cursor.
TERMINAL = {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}


class Screen:
    """`qm run smollm2` on a terminal of 100 columns."""

    def __init__(self, daemon: LiveDaemon, *argv: str) -> None:
        self.child = pexpect.spawn(
            str(QM),
            ["run", "smollm2", "-p", "temperature=0", "-p", "num_predict=24", *argv],
            env=daemon.env | TERMINAL,
            encoding="utf-8",
            timeout=60,
            dimensions=(40, 100),
        )
        self.prompted()

    def prompted(self) -> str:
        """What was printed before the next prompt is ready, without control sequences."""
        self.child.expect_exact(READY)
        printed = str(self.child.before)
        self.child.expect_exact("Send a message")
        return re.sub(r"\x1b[\[\]()][0-9;?]*[A-Za-z]?", "", printed)

    def type(self, text: str) -> None:
        """Keys, and Enter."""
        self.child.send(text + ENTER)

    def say(self, text: str) -> str:
        """What comes back for a message or command."""
        self.type(text)
        return self.prompted()

    def leave(self) -> int | None:
        """The exit code after Ctrl-D."""
        self.child.send(CTRL_D)
        self.child.expect(pexpect.EOF)
        self.child.close()
        return self.child.exitstatus


@pytest.fixture
def screen(live_daemon: LiveDaemon) -> Iterator[Screen]:
    """A conversation that is left after the test."""
    screen = Screen(live_daemon)
    yield screen
    screen.child.close(force=True)


def test_a_conversation(screen: Screen) -> None:
    """An answer comes, the next one knows what was said, and Ctrl-D leaves."""
    assert "Paris" in screen.say("What is the capital of France?")
    assert "France" in screen.say("Of which country is that the capital?")
    assert screen.leave() == 0


def test_ctrl_c_stops_the_answer_and_not_qm(screen: Screen) -> None:
    """The prompt is back and works."""
    screen.say("/set parameter num_predict 4000")
    screen.say("/set parameter ignore_eos true")
    screen.type("Tell a long story.")
    screen.child.expect("[a-z]{3,} [a-z]+ [a-z]+")
    screen.child.send(CTRL_C)
    screen.prompted()
    screen.say("/set parameter num_predict 8")
    assert screen.say("Hello.")


def test_ctrl_c_at_the_prompt_says_how_to_leave(screen: Screen) -> None:
    """It drops what was typed."""
    screen.child.send("half a thou" + CTRL_C)
    assert "Ctrl-D or /bye" in screen.prompted()


def test_bye(screen: Screen) -> None:
    """The other way to leave."""
    screen.type("/bye")
    screen.child.expect(pexpect.EOF)
    screen.child.close()
    assert screen.child.exitstatus == 0


def test_many_lines(screen: Screen) -> None:
    """Between marks Enter is a new line; Ctrl-J is one anywhere."""
    screen.type('"""What is the capital')
    screen.child.expect_exact("...")
    assert "Paris" in screen.say('of France?"""')
    screen.child.send("What is the capital" + CTRL_J)
    assert "Berlin" in screen.say("of Germany?")


def test_settings_hold_for_the_session(screen: Screen) -> None:
    """A system prompt, parameters, timings."""
    assert "Set parameter top_k to 1." in screen.say("/set parameter top_k 1")
    assert "must be" in screen.say("/set parameter top_k many")
    assert "temperature" in screen.say("/set parameter")
    screen.say("/set system You answer in one word.")
    assert "You answer in one word." in screen.say("/show system")
    shown = screen.say("/show parameters")
    assert "In this session:" in shown
    assert "top_k" in shown
    screen.say("/set verbose")
    assert "eval rate:" in screen.say("Hello.")


def test_json_answers(screen: Screen) -> None:
    """`/set format json`, and what cannot be JSON is refused."""
    assert "JSON schema" in screen.say("/set format [")
    assert "Answers are JSON now." in screen.say("/set format json")
    assert "plain text" in screen.say("/set noformat")


def test_help_and_mistakes(screen: Screen) -> None:
    """A wrong command is an error in words, and the conversation goes on."""
    assert "save this session" in screen.say("/?")
    assert "wordwrap" in screen.say("/help set")
    assert "unknown command /sett" in screen.say("/sett")
    assert "One of info" in screen.say("/show")
    assert "134.52M" in screen.say("/show info")
    assert "smollm2" in screen.say("/list")
    assert "qm pull llama9" in screen.say("/load llama9")
    assert "Paris" in screen.say("What is the capital of France?")


def test_a_session_is_saved_and_goes_on(live_daemon: LiveDaemon, screen: Screen) -> None:
    """With what was said, what was set, and nothing stored twice."""
    screen.say("/set system Answer in one short sentence.")
    screen.say("What is the capital of France?")
    assert "Saved as trip" in screen.say("/save trip")
    screen.say("/clear")
    loaded = screen.say("/load trip")
    assert ">>> What is the capital of France?" in loaded
    assert "Paris" in loaded
    assert "France" in screen.say("Of which country is that the capital?")
    info = live_daemon.json("POST", "/api/show", {"model": "trip"})
    assert [message["role"] for message in info["messages"]] == ["user", "assistant"]
    assert info["system"] == "Answer in one short sentence."
    assert "freed" in live_daemon.qm("rm", "trip").stdout


def test_what_was_typed_is_there_the_next_time(live_daemon: LiveDaemon, screen: Screen) -> None:
    """Up brings it back, unless history was off; nobody else may read the file."""
    screen.say("/set system remembered words")
    screen.say("/set nohistory")
    screen.say("/set system forgotten words")
    screen.leave()
    history = live_daemon.home / "history"
    assert history.stat().st_mode & 0o077 == 0
    assert "forgotten" not in history.read_text()
    again = Screen(live_daemon)
    again.child.send("\x1b[A\x1b[A")
    again.child.expect_exact("remembered words")
    again.child.close(force=True)


def test_a_new_daemon_takes_over(screen: Screen, live_daemon: LiveDaemon) -> None:
    """An unloaded model is loaded again, and the conversation is still known."""
    screen.say("What is the capital of France?")
    assert json.loads(live_daemon.qm("ps", "--json").stdout)
    live_daemon.qm("stop", "smollm2")
    assert "France" in screen.say("Of which country is that the capital?")
