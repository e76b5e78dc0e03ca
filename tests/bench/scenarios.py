"""What is measured: each scenario asks one server and returns its figures, in seconds or tokens/s.

`turn` numbers the repetitions: prompts differ from one to the next, so that nothing is cached but
what the scenario itself evaluated before.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from .servers import Answer, Server

Figures: TypeAlias = dict[str, float]

ANSWER_TOKENS = 64
LONG_PROMPT = 1800
SHARED_PREFIX = 1300
CONVERSATION = 2000
GAP_LIMIT_S = 60.0


def words(count: int, turn: int, word: str = "river") -> str:
    """About `count` tokens that begin in no other turn like this."""
    return f"Report {turn * 7919}:" + f" {word}" * count


def at_once(calls: list[Callable[[], Answer]]) -> list[Answer]:
    """The answers of calls that start together."""
    gate = threading.Barrier(len(calls))

    def after_gate(call: Callable[[], Answer]) -> Answer:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(after_gate, calls))


def wall_s(answers: list[Answer]) -> float:
    return max(one.came_s[-1] for one in answers) - min(one.sent_s for one in answers)


def throughput(server: Server, turn: int, clients: int) -> Figures:
    """Short prompts, `clients` at once: tokens a second together, and how evenly they come."""
    prompts = [words(12, turn * 100 + number, "sun") for number in range(clients)]
    answers = at_once([lambda p=p: server.answer(p, ANSWER_TOKENS) for p in prompts])  # type: ignore[misc]
    gaps = sorted(gap for one in answers for gap in one.gaps_s)
    return {
        f"tokens/s, {clients} clients": clients * ANSWER_TOKENS / wall_s(answers),
        f"first token, {clients} clients": statistics.median(one.first_s for one in answers),
        f"gap p50, {clients} clients": gaps[len(gaps) // 2],
        f"gap p99, {clients} clients": gaps[int(len(gaps) * 0.99)],
    }


def long_prompt_beside_an_answer(server: Server, turn: int) -> Figures:
    """An answer runs; a long prompt arrives. How long does one pause, and the other take?"""
    running, begun, over = Answer(time.perf_counter()), threading.Event(), threading.Event()

    def watch() -> None:
        for came_s in server.ask(words(8, turn, "moon"), 2000):
            running.came_s.append(came_s)
            if len(running.came_s) == 8:
                begun.set()
            if over.is_set():
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun.wait(GAP_LIMIT_S)
    start = len(running.came_s) - 1
    long = server.answer(words(LONG_PROMPT, turn), 1)
    over.set()
    watcher.join()
    return {
        "longest gap beside a long prompt": max(running.gaps_s[start:]),
        "first token of that prompt": long.first_s,
    }


def burst_with_one_prefix(server: Server, turn: int) -> Figures:
    """Eight requests at once that share a long beginning."""
    prefix = words(SHARED_PREFIX, turn)
    prompts = [f"{prefix} Question {number}: why?" for number in range(8)]
    answers = at_once([lambda p=p: server.answer(p, 16) for p in prompts])  # type: ignore[misc]
    return {"8 requests with one prefix": wall_s(answers)}


def return_after_a_swap(server: Server, turn: int, first: str, second: str) -> Figures:
    """A conversation in one model, a word with another, then on with the conversation."""
    conversation = words(CONVERSATION, turn)
    server.answer(conversation, 8, first)
    server.answer(words(4, turn), 2, second)
    back = server.answer(conversation + " And then?", 4, first)
    return {"first token after a swap": back.first_s}


def two_models(one: tuple[Server, str], other: tuple[Server, str], turn: int) -> Figures:
    """Both answer at once: tokens a second together."""

    def call(server: Server, model: str) -> Callable[[], Answer]:
        return lambda: server.answer(words(4, turn), ANSWER_TOKENS, model)

    calls = [call(*one), call(*other)]
    return {"tokens/s, two models": 2 * ANSWER_TOKENS / wall_s(at_once(calls))}
