"""Frames become events: reasoning is counted, and one call can be the last word."""

from __future__ import annotations

from typing import Any

import pytest
from qm.daemon.chat.output import OutputParser, output_shape
from qm.daemon.chat.reading import AnswerReader
from qm.daemon.chat.request import Delta, Event, Finished, FinishReason, Request, joined
from qm.daemon.runner.process import GenerateEvent
from qm.daemon.runner.wire import Chunk, Done, Evaluated
from qm.modelfiles.template import Template

NOW = {"type": "function", "function": {"name": "now"}}
CALL = '{"name": "now", "arguments": {}}'
CHATML = Template.of("{% if tools %}<tool_call>{% endif %}<think>{{ messages }}")
MISTRAL = Template.of("{% if tools %}[TOOL_CALLS]{% endif %}{{ messages }}")
HARMONY = Template.of("{% if tools %}<|channel|>{% endif %}{{ messages }}")


def parser(template: Template, *, thinks: bool = False) -> OutputParser:
    request = Request(model="m", messages=(), tools=(NOW,))
    made = output_shape(request, template, thinks=thinks).parser(request, "")
    assert made is not None
    return made


def read(made: OutputParser | None, pieces: list[str], **how: Any) -> list[Event]:
    """The events of an answer in these pieces, as far as they are wanted."""
    reader = AnswerReader(made, Evaluated(1, 7, 5), started_ns=0, load_ns=0, **how)
    frames: list[GenerateEvent] = [Chunk(1, piece) for piece in pieces]
    events: list[Event] = []
    for frame in [*frames, Done(1, "stop", 7, 5, len(pieces), 10, 20)]:
        for event in reader.read(frame):
            events.append(event)
            if isinstance(event, Finished):
                return events
    raise AssertionError("every answer ends with Finished")


def ended(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def grown(events: list[Event]) -> Delta:
    return joined([event for event in events if isinstance(event, Delta)])


def test_text_alone() -> None:
    events = read(None, ["Hel", "lo"])
    assert grown(events) == Delta("Hello")
    metrics = ended(events).metrics
    assert (metrics.prompt_tokens, metrics.cached_tokens, metrics.generated_tokens) == (7, 5, 2)
    assert metrics.reasoning_tokens == 0


@pytest.mark.parametrize(
    ("template", "pieces", "reasoning"),
    [
        (CHATML, ["<think>", "so", " it", "</think>", "Hello", " you"], 4),
        (CHATML, ["<thi", "nk>", "so", "</th", "ink>", "Hello"], 4),  # until it is told by a mark
        (CHATML, ["Hello", " <think>"], 0),
        (HARMONY, ["<|channel|>analysis<|message|>", "so", "<|end|>", "<|start|>", "Hi"], 3),
    ],
)
def test_tokens_of_reasoning_are_counted(
    template: Template, pieces: list[str], reasoning: int
) -> None:
    """With the marks around it."""
    events = read(parser(template, thinks=True), pieces)
    assert ended(events).metrics.reasoning_tokens == reasoning


def test_one_call_ends_the_answer() -> None:
    """At its end nothing more is read, and what it cost is told."""
    block = f"<tool_call>{CALL}</tool_call>"
    for pieces in ([block, "\n", block], [f"{block}\n{block}"], [*block, *block]):
        events = read(parser(CHATML), pieces, one_call=True)
        delta, finished = grown(events), ended(events)
        assert [call.name for call in delta.tool_calls] == ["now"]
        assert {part.index for part in delta.tool_parts} == {0}
        assert finished.reason is FinishReason.TOOL_CALLS
        assert finished.metrics.prompt_tokens == 7
        assert finished.metrics.generated_tokens == (len(block) if len(pieces) > 3 else 1)


def test_of_a_list_of_calls_the_first_counts() -> None:
    """A list ends with its bracket, so its other calls are generated, and dropped."""
    pieces = ["[TOOL_CALLS]", f"[{CALL},", f" {CALL}]"]
    events = read(parser(MISTRAL), pieces, one_call=True)
    assert [call.index for call in grown(events).tool_calls] == [0]
    assert {part.index for part in grown(events).tool_parts} == {0}
    assert ended(events).reason is FinishReason.TOOL_CALLS
    both = read(parser(MISTRAL), pieces)
    assert [call.index for call in grown(both).tool_calls] == [0, 1]


def test_the_first_call_that_can_be_read_counts() -> None:
    """One that had begun to be told and came to nothing is not it."""
    broken = '<tool_call>{"name": "now", "arguments": {"a": }}</tool_call>'
    events = read(parser(CHATML), [*broken, *f"<tool_call>{CALL}</tool_call>"], one_call=True)
    assert [call.index for call in grown(events).tool_calls] == [1]
    assert ended(events).reason is FinishReason.TOOL_CALLS
