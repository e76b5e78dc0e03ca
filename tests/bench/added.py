"""What the daemon adds to its runner: the same prompts through it and to a runner alone, in turns.

The machine's speed drifts by more than what is looked for. So one request of either kind follows
the other, and the median of their differences counts. Each runner is stopped while the other is
asked: its threads stay awake for a while, on the same cores. The runner alone gets the prompt as
text: to render the conversation is the daemon's part.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from . import scenarios
from .direct import Direct
from .scenarios import ANSWER_TOKENS
from .servers import ANSWER_LIMIT_S, Answer, KeptQm, Qm, find_number

FIRST_TOKENS: Final = 20  # pairs of a run
STREAMS: Final = 2
ALONE: Final = "the runner alone"


class NativeChat(KeptQm):
    """Asks `/api/chat`."""

    def body(self, prompt: str, n: int, model: str, **more: Any) -> tuple[str, dict[str, Any]]:
        options = {"num_predict": n, "temperature": 0, "ignore_eos": True}
        asked = {"model": model, "messages": _turns(prompt), "options": options}
        return "/api/chat", asked | more


class OpenAIChat(KeptQm):
    """Asks `/v1/chat/completions`."""

    def body(self, prompt: str, n: int, model: str, **more: Any) -> tuple[str, dict[str, Any]]:
        asked = {"model": model, "messages": _turns(prompt), "max_tokens": n, "temperature": 0}
        told = {"ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
        return "/v1/chat/completions", asked | told | more

    def is_piece(self, line: bytes) -> bool:
        return b'"content":"' in line

    def count(self, line: bytes) -> int:
        return find_number(rb'"completion_tokens":(\d+)', line)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ways to the same answer."""

    through: NativeChat | OpenAIChat
    alone: Direct

    def first_tokens(self, turn: int) -> Iterator[tuple[Answer, Answer]]:
        """Of a prompt that is cached but for its end."""
        for nth, both in enumerate(self._asked(turn, 1, 1 + FIRST_TOKENS)):
            if nth:  # the first filled the caches
                yield both

    def streams(self, turn: int) -> Iterator[tuple[float, float]]:
        """Tokens a second of each."""
        for mine, theirs in self._asked(turn, 2 * ANSWER_TOKENS, STREAMS):
            yield 1 / mine.token_s, 1 / theirs.token_s

    def _asked(self, turn: int, n: int, times: int) -> Iterator[tuple[Answer, Answer]]:
        prompt = scenarios.text(24, "daemon", turn)
        rendered, pid = _rendered(self.through, prompt), _runner_pid(self.through)
        for _ in range(times):
            with _stopped(self.alone.pid):
                mine = self.through.answer(prompt, n)
            with _stopped(pid):
                theirs = self.alone.answer(rendered, n)
            yield mine, theirs


def outside_s(answer: Answer) -> float:
    """The part of the time to the first token that did not pass in the runner's steps.

    Those vary by more than all the rest takes.
    """
    return answer.first_s - answer.prompt_s


@contextmanager
def pairs(server: Qm, alone: Direct) -> Iterator[dict[str, Pair]]:
    """By the name of the API, over a connection each that stays open."""
    with ExitStack() as stack:
        found = {}
        for name, kind in (("/api/chat", NativeChat), ("/v1", OpenAIChat)):
            connection = stack.enter_context(closing(socket.create_connection(_address(server))))
            found[name] = Pair(kind(server.port, server.models, connection=connection), alone)
        yield found


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """For so short a time that nobody misses this process."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _rendered(server: Qm, prompt: str) -> str:
    """The prompt that the daemon makes of a conversation."""
    asked = {"model": server.models[0], "messages": _turns(prompt), "_debug_render_only": True}
    rendered: str = _fetched(server, "POST", "/api/chat", asked)["_debug_info"]["rendered_template"]
    return rendered


def _runner_pid(server: Qm) -> int:
    """Of the daemon's only one."""
    (row,) = _fetched(server, "GET", "/api/ps")["models"]
    return int(row["qm"]["pid"])


def _fetched(server: Qm, method: str, path: str, body: object = None) -> Any:  # Any: JSON
    with closing(http.client.HTTPConnection(*_address(server), timeout=ANSWER_LIMIT_S)) as asking:
        asking.request(method, path, json.dumps(body) if body else None)
        return json.load(asking.getresponse())


def _turns(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _address(server: Qm) -> tuple[str, int]:
    return "127.0.0.1", server.port
