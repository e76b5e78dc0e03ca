"""The official `openai` client against a live daemon with the real model."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import openai
import pytest

pytestmark = pytest.mark.slow
MODEL = "smollm2"
TURNS: Any = [{"role": "user", "content": "Repeat: one two three four five six seven eight nine."}]
LONG: Any = [{"role": "user", "content": "Write a very long story about a dog."}]


@pytest.fixture(scope="module")
def client(live_daemon: Any) -> Iterator[openai.OpenAI]:
    host = live_daemon.json("GET", "/qm/status")["host"]
    with openai.OpenAI(base_url=f"http://{host}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_chat_streams_what_it_answers_whole(client: openai.OpenAI) -> None:
    """The same words both ways, usage at the end of the stream only."""
    asked: dict[str, Any] = {"model": MODEL, "messages": TURNS, "temperature": 0, "max_tokens": 8}
    whole = client.chat.completions.create(**asked)
    choice = whole.choices[0]
    assert (choice.finish_reason, choice.message.role) == ("length", "assistant")
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 8
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 8
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == choice.message.content
    assert [c.usage for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.total_tokens == whole.usage.total_tokens
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens  # of the same prompt before
    assert len({c.id for c in chunks}) == 1
    assert chunks[-2].choices[0].finish_reason == "length"


def test_several_choices(client: openai.OpenAI) -> None:
    """n answers, each with its index, streamed side by side; a seed makes them differ."""
    asked: dict[str, Any] = {"model": MODEL, "messages": LONG, "seed": 7, "max_tokens": 8, "n": 3}
    whole = client.chat.completions.create(**asked, temperature=1.5)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in whole.choices}) > 1
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 24
    ends = [
        chunk.choices[0].index
        for chunk in client.chat.completions.create(**asked, stream=True)
        if chunk.choices[0].finish_reason
    ]
    assert sorted(ends) == [0, 1, 2]


def test_max_completion_tokens_and_stop(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": TURNS, "temperature": 0}
    none = client.chat.completions.create(**asked, max_completion_tokens=0)
    assert none.choices[0].message.content == ""
    whole = client.chat.completions.create(**asked, max_completion_tokens=6)
    first = (whole.choices[0].message.content or "").split(" ")[0]
    cut = client.chat.completions.create(**asked, max_completion_tokens=6, stop=" ")
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == (first, "stop")


def test_logprobs_and_bias(client: openai.OpenAI) -> None:
    """The likeliest token leads its alternatives; a bias of -100 forbids it."""
    asked: dict[str, Any] = {"model": MODEL, "messages": TURNS, "temperature": 0, "max_tokens": 1}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=3)
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    (token,) = logprobs.content
    assert token.token == whole.choices[0].message.content
    assert token.top_logprobs[0].token == token.token
    assert len(token.top_logprobs) == 3
    biased = client.chat.completions.create(**asked, logit_bias={"19556": -100, "28120": -100})
    assert biased.choices[0].message.content


def test_completions(client: openai.OpenAI) -> None:
    """A prompt goes to the model as it is: text or tokens, one or several, echoed or not."""
    asked: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 3}
    one = client.completions.create(**asked, prompt="The sky is")
    assert one.usage is not None
    assert one.usage.prompt_tokens == 3
    two = client.completions.create(**asked, prompt=["The sky is", "1, 2, 3,"], n=2, echo=True)
    assert [choice.index for choice in two.choices] == [0, 1, 2, 3]
    assert two.choices[0].text == two.choices[1].text == "The sky is" + one.choices[0].text
    assert two.choices[2].text.startswith("1, 2, 3,")
    pieces = client.completions.create(**asked, prompt="The sky is", stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == one.choices[0].text
    scored = client.completions.create(**asked, prompt="The sky is", logprobs=2)
    logprobs = scored.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == one.choices[0].text
    assert logprobs.text_offset is not None
    assert logprobs.text_offset[0] == 0
    assert client.completions.create(**asked, prompt=[504, 6376, 314]).choices[0].text


def test_prompts_are_scored(client: openai.OpenAI) -> None:
    """As evaluations ask: texts and tokens with `echo` and `logprobs`, one token more or none."""
    asked: dict[str, Any] = {"model": MODEL, "temperature": 0, "echo": True, "logprobs": 1}
    for limit, texts in ((1, "The sky is"), (0, [[504, 6376, 314], [504, 6376]])):
        made = client.completions.create(**asked, prompt=texts, max_tokens=limit)
        logprobs = made.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.tokens is not None
        assert logprobs.tokens[:3] == ["The", " sky", " is"]
        assert "".join(logprobs.tokens) == made.choices[0].text
        assert logprobs.text_offset is not None
        assert logprobs.text_offset[:3] == [0, 3, 7]
        scores, best = logprobs.token_logprobs, logprobs.top_logprobs
        assert scores is not None
        assert best is not None
        assert len(scores) == len(best) == 3 + limit
        assert (scores[0], best[0]) == (None, None)
        assert all(
            max(top.values()) >= score for score, top in zip(scores[1:], best[1:], strict=True)
        )
        assert scores[1] < -8 < scores[2]


def test_models(client: openai.OpenAI) -> None:
    assert f"{MODEL}:latest" in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).object == "model"
    with pytest.raises(openai.NotFoundError, match="model 'nosuch:latest' not found"):
        client.models.retrieve("nosuch")


def test_errors_are_the_classes_of_the_sdk(client: openai.OpenAI) -> None:
    """Missing, wrong and too long: by status, `type` and `code`, streaming or not."""
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError, match="model 'nosuch' not found") as missing:
            client.chat.completions.create(model="nosuch", messages=TURNS, stream=stream)
        error = missing.value
        told = (error.type, error.code, error.param)
        assert told == ("not_found_error", None, None)
        with pytest.raises(openai.BadRequestError, match="n must be between 1 and 128"):
            client.chat.completions.create(model=MODEL, messages=TURNS, n=10**6, stream=stream)
        too_long: Any = [{"role": "user", "content": "word " * 20_000}]
        with pytest.raises(openai.BadRequestError, match="20") as caught:
            client.chat.completions.create(model=MODEL, messages=too_long, stream=stream)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    with pytest.raises(openai.BadRequestError, match="temperature") as caught:
        client.chat.completions.create(model=MODEL, messages=TURNS, temperature=-1)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "temperature")
    wrong: Any = [{"role": "user", "content": "a"}, {"role": 3, "content": "a"}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=wrong)
    assert (caught.value.code, caught.value.param) == (None, None)
    with pytest.raises(openai.BadRequestError, match="image URLs are not currently supported"):
        image: Any = [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
        turns: Any = [{"role": "user", "content": image}]
        client.chat.completions.create(model=MODEL, messages=turns)
    with pytest.raises(openai.InternalServerError, match="does not support embeddings"):
        client.embeddings.create(model=MODEL, input="x")


def test_an_audio_upload_is_told_that_the_model_hears_nothing(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="can't transcribe audio") as caught:
        client.audio.transcriptions.create(model=MODEL, file=("a.wav", b"RIFF"))
    assert caught.value.status_code == 501


def test_a_stream_that_fails_says_so(client: openai.OpenAI, live_daemon: Any) -> None:
    """The runner is killed in the middle: an error object, then [DONE]; the SDK raises."""
    stream = client.chat.completions.create(model=MODEL, messages=LONG, stream=True)
    with pytest.raises(openai.APIError, match="SIGKILL"):
        for count, _ in enumerate(stream):
            if not count:
                kill_runner(live_daemon)
    host = live_daemon.json("GET", "/qm/status")["host"]
    connection = http.client.HTTPConnection(host, timeout=60)
    body = json.dumps({"model": MODEL, "messages": LONG, "stream": True})
    connection.request("POST", "/v1/chat/completions", body)
    response = connection.getresponse()
    response.readline()
    kill_runner(live_daemon)
    *_, error, done = [line for line in response.read().decode().split("\n") if line]
    connection.close()
    assert done == "data: [DONE]"
    assert json.loads(error.removeprefix("data: "))["error"]["type"] == "api_error"


def kill_runner(daemon: Any) -> None:
    (row,) = [r for r in daemon.json("GET", "/api/ps")["models"] if r["model"] == f"{MODEL}:latest"]
    os.kill(row["qm"]["pid"], signal.SIGKILL)
