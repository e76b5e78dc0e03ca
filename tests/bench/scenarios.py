"""What is measured: each scenario asks one server and returns its figures, in seconds or tokens/s.

`turn` numbers the repetitions: prompts differ from one to the next, so that nothing is cached but
what the scenario itself evaluated before.
"""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from .servers import Answer, Answers, LlamaServer, Qm, Server

ANSWER_TOKENS: Final = 64
LONG_PROMPT: Final = 1800
SHARED_PREFIX: Final = 1300
CONVERSATION: Final = 2000
BEGUN: Final = 8  # tokens until an answer counts as running
BEGIN_LIMIT_S: Final = 60.0
# Each of them is one token of either model.
_WORDS: Final = (
    "time year people way day man thing woman life child world school state family student group"
    " country problem hand part place case week company system program question work government"
    " number night point home water room mother area money story fact month lot right study book"
    " eye job word business issue side kind head house service friend father power hour game line"
    " end member law car city community name president team minute idea body information face"
    " others level office door health person art war history party result change morning reason"
    " research moment air teacher force education river stone field music paper winter summer"
    " garden market bridge forest island window table letter"
)
_SCHEMA: Final = {
    "type": "array",
    "minItems": 50,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "city": {"enum": ["Paris", "Lima", "Oslo"]},
        },
        "required": ["name", "age", "city"],
        "additionalProperties": False,
    },
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Named numbers; `cut` when an answer took too long to wait for."""

    values: dict[str, float] = field(default_factory=dict)
    cut: bool = False


def text(count: int, *key: object) -> str:
    """About `count` tokens, other words for every key."""
    return " ".join(random.Random(repr(key)).choices(_WORDS.split(), k=count))


def at_once(calls: list[Callable[[], Answer]]) -> list[Answer]:
    """The answers of calls that start together."""
    gate = threading.Barrier(len(calls))

    def after_gate(call: Callable[[], Answer]) -> Answer:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(after_gate, calls))


def wall_s(answers: list[Answer]) -> float:
    return max(one.over_s for one in answers) - min(one.sent_s for one in answers)


def rate(answers: list[Answer]) -> float:
    """Tokens a second of all together."""
    return sum(one.tokens for one in answers) / wall_s(answers)


def was_cut(*answers: Answer) -> bool:
    return any(one.cut for one in answers)


def warm(server: Answers, *models: str) -> None:
    """Loads what loads late."""
    for model in models or ("",):
        server.answer(text(8, model), 4, model)


def throughput(server: Answers, turn: int, clients: int) -> Figures:
    """Short prompts, `clients` at once: tokens a second together, and how evenly they come."""
    prompts = [text(24, "throughput", clients, turn, number) for number in range(clients)]
    answers = at_once([lambda p=p: server.answer(p, ANSWER_TOKENS) for p in prompts])  # type: ignore[misc]
    gaps = sorted(gap for one in answers for gap in one.gaps_s)
    who = "1 client" if clients == 1 else f"{clients} clients"
    values = {
        f"tokens/s, {who}": rate(answers),
        f"first token, {who}": statistics.median(one.first_s for one in answers),
        f"between tokens p50, {who}": gaps[len(gaps) // 2],
        f"between tokens p99, {who}": gaps[int(len(gaps) * 0.99)],
    }
    return Figures(values, was_cut(*answers))


def long_prompt_beside_an_answer(server: Server, turn: int) -> Figures:
    """An answer runs; a long prompt arrives. How long does one pause, and the other take?"""
    came_s: list[float] = []
    begun, over = threading.Event(), threading.Event()

    def watch() -> None:
        with closing(server.lines(text(8, "running", turn), 3000)) as lines:  # type: ignore[type-var]
            for line in lines:
                if server.is_piece(line):
                    came_s.append(time.perf_counter())
                if len(came_s) == BEGUN:
                    begun.set()
                if over.is_set():
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun.wait(BEGIN_LIMIT_S)
    start = len(came_s) - 1
    long = server.answer(text(LONG_PROMPT, "long", turn), 1)
    over.set()
    watcher.join()
    running = Answer(0.0, came_s[start:])
    values = {
        "longest gap beside a long prompt": max(running.gaps_s),
        "first token of that prompt": long.first_s,
    }
    return Figures(values, was_cut(long))


def burst_with_one_prefix(server: Answers, turn: int) -> Figures:
    """Eight requests at once that share a long beginning."""
    prefix = text(SHARED_PREFIX, "prefix", turn)
    prompts = [f"{prefix} {text(6, 'question', number)}" for number in range(8)]
    answers = at_once([lambda p=p: server.answer(p, 16) for p in prompts])  # type: ignore[misc]
    return Figures({"8 requests with one prefix": wall_s(answers)}, was_cut(*answers))


def return_after_a_swap(server: Answers, turn: int, first: str, second: str) -> Figures:
    """A conversation in one model, a word with another, then on with the conversation."""
    conversation = text(CONVERSATION, "conversation", turn)
    server.answer(conversation, 8, first)
    server.answer(text(4, "aside", turn), 2, second)
    back = server.answer(f"{conversation} {text(4, 'back', turn)}", 4, first)
    return Figures({"first token after a swap": back.first_s}, was_cut(back))


def two_models(one: tuple[Answers, str], other: tuple[Answers, str], turn: int) -> Figures:
    """Both answer at once: tokens a second together, while neither is alone."""

    def call(server: Answers, model: str) -> Callable[[], Answer]:
        return lambda: server.answer(text(4, "two", turn), 2 * ANSWER_TOKENS, model)

    answers = at_once([call(*one), call(*other)])
    start = max(answer.came_s[0] for answer in answers)
    end = min(answer.over_s for answer in answers)
    came = sum(start < came_s <= end for answer in answers for came_s in answer.came_s)
    return Figures({"tokens/s, two models at once": came / (end - start)}, was_cut(*answers))


def schema(server: Server, turn: int, *, constrained: bool) -> Figures:
    """The time of a token of an answer that keeps to a schema, or of a free one."""
    more: dict[str, Any] = {}
    if constrained and isinstance(server, Qm):
        more = {"format": _SCHEMA}
    elif constrained and isinstance(server, LlamaServer):
        more = {"json_schema": _SCHEMA}
    prompt = f"{text(8, 'schema', turn)}. As JSON: {json.dumps(_SCHEMA)}"
    answer = server.answer(prompt, 2 * ANSWER_TOKENS, **more)
    return Figures({"s/token with a schema": answer.token_s}, was_cut(answer))
