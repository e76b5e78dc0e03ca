"""Answers that keep to a schema, whatever the model would rather say."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import aclosing
from typing import Any

import pytest
from qm.daemon.runner import wire
from qm.daemon.runner.failures import RequestRefused
from qm.daemon.runner.process import Runner, collect

from .conftest import chat, greedy, until_idle

pytestmark = pytest.mark.asyncio(loop_scope="module")
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "mood": {"enum": ["happy", "sad"]},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
}
ASK = chat("Invent a person. Answer in JSON.")


def bound(schema: object, n: int = 80, **more: Any) -> wire.Generate:
    return greedy(ASK, n, json_schema=json.dumps(schema), **more)


async def document(runner: Runner, request: wire.Generate) -> Any:
    text, done = await collect(runner.generate(request))
    assert done.reason == "stop", text
    return json.loads(text)


async def test_an_answer_satisfies_its_schema(runner: Runner) -> None:
    """At any temperature, and the answer ends by itself."""
    for options in ({}, {"temperature": 1.5, "seed": 5, "top_k": 0, "top_p": 1.0}):
        person = await document(runner, bound(PERSON, options=options))
        assert list(person) == ["name", "age", "mood"]
        assert len(person["name"]) <= 12
        assert 0 <= person["age"] <= 120
        assert person["mood"] in ("happy", "sad")


async def test_forced_text_is_the_text_that_picking_would_give(runner: Runner) -> None:
    """Tokens without a choice are not sampled, except where logprobs are asked of each."""
    schema = {"const": {"a_rather_long_name": "and a long value"}}
    forced, _ = await collect(runner.generate(bound(schema)))
    async with aclosing(runner.generate(bound(schema, logprobs=0))) as events:
        chunks = [event async for event in events if isinstance(event, wire.Chunk)]
    assert json.loads(forced) == json.loads("".join(chunk.text for chunk in chunks))
    assert sum(len(chunk.logprobs) for chunk in chunks) == sum(chunk.n_tokens for chunk in chunks)


async def test_constrained_and_free_answers_run_side_by_side(runner: Runner) -> None:
    """Neither changes the other."""
    free = greedy(chat("Why is the sky blue?"), 24)
    alone = await collect(runner.generate(free)), await document(runner, bound(PERSON))
    together = await asyncio.gather(
        collect(runner.generate(free)),
        *(document(runner, bound(PERSON)) for _ in range(3)),
    )
    assert together[0][0][:40] == alone[0][0][:40]  # bigger batches round differently
    assert list(together[1:]) == [alone[1]] * 3


async def test_what_must_repeat_itself_is_no_model_that_hangs(runner: Runner) -> None:
    """Tokens that are forced are not counted; an answer that is cut says that it isn't whole."""
    assert await document(runner, bound({"const": "0" * 90}, 200)) == "0" * 90
    (zero,) = await runner.tokenize("0")
    options = {"logit_bias": {zero: 100.0}}
    grammar = greedy(ASK, 90, grammar='root ::= "0"* "x"', options=options)
    text, done = await collect(runner.generate(grammar))
    assert set(text) == {"0"}
    assert (done.reason, done.generated_tokens < 90) == ("length", True)


async def test_the_limit_of_tokens_holds(runner: Runner) -> None:
    """Also where tokens are forced many at a time."""
    schema = {"const": "word " * 50}
    _, done = await collect(runner.generate(bound(schema, 7)))
    assert (done.reason, done.generated_tokens) == ("length", 7)


async def test_reasoning_is_free_and_the_answer_is_not(runner: Runner) -> None:
    """The constraint binds behind the closing tag, which is written if the model won't."""
    opened = chat("Say only: yes") + "<think>\n"
    request = greedy(opened, 90, json_schema=json.dumps(PERSON), constrain_after="</think>")
    text, done = await collect(runner.generate(request))
    reasoning, tag, answer = text.partition("</think>")
    assert reasoning
    assert (tag, done.reason) == ("</think>", "stop"), text
    assert json.loads(answer)["mood"] in ("happy", "sad")


async def test_no_reasoning_no_freedom(runner: Runner) -> None:
    """A model that doesn't begin to reason is bound from its first token on."""
    request = bound(PERSON, constrain_after="</think>", reasoning_start="<think>")
    assert await document(runner, request) == await document(runner, bound(PERSON))


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "string", "pattern": "["}, "unclosed character class"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"x-guidance": {"lenient": True}, "not": {"type": "string"}}, "not"),
        ({"type": "banana"}, "banana"),
        ({"$ref": "#"}, "without an end"),
        ({"$ref": "#/$defs/none"}, "does not exist"),
        ({"$ref": "https://example.com/schema"}, "not present"),
        ({"enum": []}, "anyOf is empty"),
        (False, "object"),
    ],
)
async def test_what_cannot_be_enforced_is_refused(
    runner: Runner, schema: object, reason: str
) -> None:
    """With the reason; nothing is generated without its constraint."""
    with pytest.raises(RequestRefused, match="the format can't be enforced") as refused:
        await collect(runner.generate(bound(schema)))
    assert refused.value.reason == "bad_schema"
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ('root ::= ("yes" | "no") "!"', "(yes|no)!"),
        ('root ::= word{3}\nword ::= [a-z]+ [x] " "', "([a-z]+x ){3}"),
        ('root ::= "(" root ")" | "é"', r"\(*é\)*"),
    ],
)
async def test_a_grammar_binds(runner: Runner, grammar: str, text: str) -> None:
    """Terminals that overlap and rules that nest included."""
    answer, _ = await collect(runner.generate(greedy(ASK, 40, grammar=grammar)))
    assert re.fullmatch(text, answer) or len(answer) > 30
    assert not answer.endswith("\ufffd")


async def test_a_broken_grammar_is_refused(runner: Runner) -> None:
    with pytest.raises(RequestRefused, match="the grammar can't be enforced: line 1"):
        await collect(runner.generate(greedy(ASK, 4, grammar="root ::= (")))


async def test_hanging_up_while_a_schema_compiles(runner: Runner) -> None:
    """The request ends when its schema is ready, at the latest."""
    properties = {f"property_{i}": PERSON for i in range(300)}
    stream = runner.generate(bound({"type": "object", "properties": properties}, 500))
    waiting = asyncio.ensure_future(anext(stream))
    await runner.ping()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await stream.aclose()
    await asyncio.wait_for(until_idle(runner), 20)
