"""What the daemon adds to its runner: the same prompts through it and to a runner alone, in turns.

The machine's speed drifts by more than what is looked for. So one request of either kind follows
the other, and the median of their differences counts. The runner alone gets the prompt as text: to
render the conversation is the daemon's part.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from . import scenarios
from .scenarios import ANSWER_TOKENS
from .servers import ANSWER_LIMIT_S, Answer, Answers, KeptQm, Qm, find_number

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
    alone: Answers

    def first_tokens(self, turn: int) -> Iterator[tuple[float, float]]:
        """How long each took to its first token; their prompt is cached but for its end."""
        for nth, (mine, theirs) in enumerate(self._asked(turn, 1, 1 + FIRST_TOKENS)):
            if nth:  # the first filled the caches
                yield mine.first_s, theirs.first_s

    def streams(self, turn: int) -> Iterator[tuple[float, float]]:
        """Tokens a second of each."""
        for mine, theirs in self._asked(turn, 2 * ANSWER_TOKENS, STREAMS):
            yield 1 / mine.token_s, 1 / theirs.token_s

    def _asked(self, turn: int, n: int, times: int) -> Iterator[tuple[Answer, Answer]]:
        prompt = scenarios.text(24, "daemon", turn)
        rendered = _rendered(self.through, prompt)
        for nth in range(times):
            calls: list[Callable[[], Answer]] = [
                lambda: self.through.answer(prompt, n),
                lambda: self.alone.answer(rendered, n),
            ]
            if nth % 2:
                theirs, mine = calls[1](), calls[0]()
            else:
                mine, theirs = calls[0](), calls[1]()
            yield mine, theirs


@contextmanager
def pairs(server: Qm, alone: Answers) -> Iterator[dict[str, Pair]]:
    """By the name of the API, over a connection each that stays open."""
    with ExitStack() as stack:
        found = {}
        for name, kind in (("/api/chat", NativeChat), ("/v1", OpenAIChat)):
            connection = stack.enter_context(closing(socket.create_connection(_address(server))))
            found[name] = Pair(kind(server.port, server.models, connection=connection), alone)
        yield found


def _rendered(server: Qm, prompt: str) -> str:
    """The prompt that the daemon makes of a conversation."""
    asked = {"model": server.models[0], "messages": _turns(prompt), "_debug_render_only": True}
    with closing(http.client.HTTPConnection(*_address(server), timeout=ANSWER_LIMIT_S)) as asking:
        asking.request("POST", "/api/chat", json.dumps(asked))
        found: str = json.load(asking.getresponse())["_debug_info"]["rendered_template"]
    return found


def _turns(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _address(server: Qm) -> tuple[str, int]:
    return "127.0.0.1", server.port
