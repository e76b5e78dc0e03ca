"""The official `anthropic` client against a live daemon with the real model."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

pytestmark = pytest.mark.slow
MODEL = "smollm2"
TURNS: Any = [{"role": "user", "content": "Repeat: one two three four five six seven eight nine."}]


@pytest.fixture(scope="module")
def client(live_daemon: Any) -> Iterator[anthropic.Anthropic]:
    host = live_daemon.json("GET", "/qm/status")["host"]
    with anthropic.Anthropic(base_url=f"http://{host}", api_key="none", max_retries=0) as client:
        yield client


def test_messages_stream_what_they_answer_whole(client: anthropic.Anthropic) -> None:
    """The same words, the same end and the same usage; the prompt's tokens are exact at once."""
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 8,
        "messages": TURNS,
        "system": "Be brief.",
    }
    options: Any = {"extra_body": {"temperature": 0}}
    whole = client.messages.create(**asked, **options)
    (block,) = whole.content
    assert block.type == "text"
    assert (whole.stop_reason, whole.usage.output_tokens) == ("max_tokens", 8)
    with client.messages.stream(**asked, **options) as stream:
        names = [event.type for event in stream]
        final = stream.get_final_message()
    assert final.content[0].type == "text"
    assert final.content[0].text == block.text
    assert (final.stop_reason, final.usage) == (whole.stop_reason, whole.usage)
    assert (names[0], names[1], names[-1]) == (
        "message_start",
        "content_block_start",
        "message_stop",
    )
    counted = client.messages.count_tokens(model=MODEL, messages=TURNS, system="Be brief.")
    assert counted.input_tokens == whole.usage.input_tokens


def test_an_answer_goes_on_from_its_beginning(client: anthropic.Anthropic) -> None:
    """The prompt ends with what the client said for the assistant, no mark behind it."""
    begun: Any = [*TURNS, {"role": "assistant", "content": "Sure"}]
    asked, more = (
        client.messages.count_tokens(model=MODEL, messages=turns).input_tokens
        for turns in (TURNS, begun)
    )
    assert more == asked + 1


def test_stop_sequences_are_told(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(
        model=MODEL,
        max_tokens=20,
        messages=TURNS,
        stop_sequences=[" "],
        extra_body={"temperature": 0},
    )
    assert (whole.stop_reason, whole.stop_sequence) == ("stop_sequence", " ")


def test_models_come_in_their_own_shape(client: anthropic.Anthropic) -> None:
    models = list(client.models.list())
    assert f"{MODEL}:latest" in [model.id for model in models]
    assert client.models.retrieve(MODEL).display_name == MODEL


def test_errors_are_the_classes_of_the_sdk(client: anthropic.Anthropic) -> None:
    """Each with the id of its request, streaming or not."""
    for stream in (False, True):
        with pytest.raises(anthropic.NotFoundError, match="model 'nosuch' not found") as caught:
            client.messages.create(model="nosuch", max_tokens=5, messages=TURNS, stream=stream)
        body: Any = caught.value.body
        assert body["request_id"].startswith("req_")
        assert body["error"]["type"] == "not_found_error"
    too_long: Any = [{"role": "user", "content": "word " * 20_000}]
    words = r"prompt is too long: 20\d\d\d tokens > \d+ maximum"  # for which Claude Code looks
    with pytest.raises(anthropic.BadRequestError, match=words):
        client.messages.create(model=MODEL, max_tokens=5, messages=too_long)
    with pytest.raises(anthropic.BadRequestError, match="does not support images"):
        source = {"type": "base64", "media_type": "image/png", "data": "aGk="}
        image: Any = [{"role": "user", "content": [{"type": "image", "source": source}]}]
        client.messages.create(model=MODEL, max_tokens=5, messages=image)


def test_a_stream_that_fails_says_so(client: anthropic.Anthropic, live_daemon: Any) -> None:
    """The runner is killed in the middle: `event: error`, which the SDK raises."""
    turns: Any = [{"role": "user", "content": "Write a very long story about a dog."}]
    stream = client.messages.create(model=MODEL, max_tokens=500, messages=turns, stream=True)
    with pytest.raises(anthropic.APIError, match="SIGKILL"):
        for event in stream:
            if event.type == "content_block_start":
                rows = live_daemon.json("GET", "/api/ps")["models"]
                (row,) = [row for row in rows if row["model"] == f"{MODEL}:latest"]
                os.kill(row["qm"]["pid"], signal.SIGKILL)
