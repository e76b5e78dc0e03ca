"""The responses API through the official `openai` client, with the real model."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

pytestmark = pytest.mark.slow
MODEL = "smollm2"
SURE = "Repeat: one two three four five six seven eight nine."  # no other token is nearly as likely
ASKED: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_output_tokens": 8}


@pytest.fixture(scope="module")
def client(live_daemon: Any) -> Iterator[openai.OpenAI]:
    host = live_daemon.json("GET", "/qm/status")["host"]
    with openai.OpenAI(base_url=f"http://{host}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_responses_stream_what_they_answer_whole(client: openai.OpenAI) -> None:
    whole = client.responses.create(**ASKED, input=SURE, instructions="Be brief.")
    assert whole.usage is not None
    assert (whole.status, whole.usage.output_tokens) == ("incomplete", 8)
    with client.responses.stream(**ASKED, input=SURE, instructions="Be brief.") as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
    assert text == whole.output_text != ""


def test_a_conversation_goes_on_from_a_response(client: openai.OpenAI) -> None:
    """The earlier turns count again; the instructions don't carry over."""
    first = client.responses.create(**ASKED, input="My name is Ada.", instructions="Be brief.")
    second = client.responses.create(
        **ASKED, input="What is my name?", previous_response_id=first.id
    )
    alone = client.responses.create(**ASKED, input="What is my name?", store=False)
    assert second.usage is not None
    assert alone.usage is not None
    counted = client.responses.input_tokens.count(model=MODEL, input="What is my name?")
    assert counted.input_tokens == alone.usage.input_tokens
    assert second.usage.input_tokens > alone.usage.input_tokens + 8
    named: Any = {"type": "item_reference", "id": first.output[0].id}
    turns: Any = [named, {"role": "user", "content": "What is my name?"}]
    third = client.responses.input_tokens.count(model=MODEL, input=turns)
    assert alone.usage.input_tokens + 8 < third.input_tokens < second.usage.input_tokens
    assert client.responses.retrieve(second.id).output_text == second.output_text
    client.responses.delete(second.id)
    for gone in (second.id, alone.id):
        with pytest.raises(openai.BadRequestError, match="no response") as caught:
            client.responses.create(**ASKED, input="x", previous_response_id=gone)
        assert caught.value.code == "previous_response_not_found"
        assert caught.value.param == "previous_response_id"
        with pytest.raises(openai.NotFoundError, match="no response"):
            client.responses.retrieve(gone)


def test_a_stream_that_fails_says_so(client: openai.OpenAI, live_daemon: Any) -> None:
    stream = client.responses.create(model=MODEL, input="Write a long story.", stream=True)
    seen = []
    with pytest.raises(openai.APIError, match="SIGKILL"):
        for event in stream:
            seen.append(event.type)
            if event.type == "response.output_item.added":
                rows = live_daemon.json("GET", "/api/ps")["models"]
                (row,) = [row for row in rows if row["model"] == f"{MODEL}:latest"]
                os.kill(row["qm"]["pid"], signal.SIGKILL)
    assert seen[-1] == "response.failed"


def test_what_was_put_in_is_listed(client: openai.OpenAI) -> None:
    """Those of the responses before it too, and what they answered."""
    first = client.responses.create(**ASKED, input="My name is Ada.")
    second = client.responses.create(
        **ASKED, input="What is my name?", previous_response_id=first.id
    )
    items: list[Any] = list(client.responses.input_items.list(second.id, order="asc", limit=2))
    assert [item.role for item in items] == ["user", "assistant", "user"]
    assert items[0].content[0].text == "My name is Ada."
    assert items[1].content[0].text == first.output_text
    with pytest.raises(openai.NotFoundError, match="no response"):
        client.responses.input_items.list("resp_0")
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(second.id)


def test_nobody_waits_for_a_background_response(client: openai.OpenAI) -> None:
    """It is fetched when it is done, like one that was waited for."""
    response = client.responses.create(**ASKED, input=SURE, background=True)
    assert (response.status, response.background) == ("queued", True)
    deadline = time.monotonic() + 60
    while response.status in ("queued", "in_progress") and time.monotonic() < deadline:
        time.sleep(0.05)
        response = client.responses.retrieve(response.id)
    assert (response.status, bool(response.output_text)) == ("incomplete", True)
    assert client.responses.cancel(response.id).status == "incomplete", "it is over already"
    with pytest.raises(openai.NotFoundError, match="nosuch"):
        client.responses.create(**{**ASKED, "model": "nosuch"}, input="x", background=True)


def test_a_background_response_is_cancelled(client: openai.OpenAI, live_daemon: Any) -> None:
    """Its slot is free then, and nothing goes on from it before it is done."""
    long = {**ASKED, "max_output_tokens": 2000}
    response = client.responses.create(**long, input="Count to a thousand.", background=True)
    with pytest.raises(openai.BadRequestError, match="still being generated"):
        client.responses.create(**ASKED, input="x", previous_response_id=response.id)
    assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.cancel(response.id).status == "cancelled"
    deadline = time.monotonic() + 60
    while users := sum(row["qm"]["users"] for row in live_daemon.json("GET", "/api/ps")["models"]):
        assert time.monotonic() < deadline, f"{users} still hold a slot"
        time.sleep(0.05)
    assert client.responses.retrieve(response.id).status == "cancelled"
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
