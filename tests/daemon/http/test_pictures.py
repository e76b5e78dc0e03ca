"""Images through Ollama's API, with a model that has a projector."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ...modelfiles.build.tiny_llama import write_tiny_llama
from ..runner.test_media import BLUE, RED
from ..runner.tiny_projector import TOKENS, write_tiny_projector
from .conftest import CHATML, create, digest_of

pytestmark = pytest.mark.slow
OPTIONS = {"temperature": 0, "num_predict": 12, "ignore_eos": True}


@pytest.fixture(scope="module")
def daemon(start_module_daemon: Callable[..., Any], tmp_path_factory: Any) -> Any:
    made, folder = start_module_daemon(), tmp_path_factory.mktemp("seeing")
    files: dict[str, str] = {}
    for name, write in (("model", write_tiny_llama), ("mmproj", write_tiny_projector)):
        path: Path = folder / f"{name}.gguf"
        write(path, *((np.float32,) if name == "model" else ()))
        status, lines = made.call("POST", "/qm/adopt", {"path": str(path)})
        assert status == 200, lines
        files[path.name] = f"sha256:{digest_of(lines)}"
    body = {"model": "eyes", "files": files, "template": CHATML, "stream": False}
    made.json("POST", "/api/create", body)
    create(made, "blind", folder / "model.gguf", template=CHATML)
    return made


def encoded(*images: bytes) -> list[str]:
    return [base64.b64encode(image).decode() for image in images]


def chat(daemon: Any, *images: bytes, model: str = "eyes") -> tuple[int, Any]:
    turn = {"role": "user", "content": "What?", "images": encoded(*images)}
    body = {"model": model, "messages": [turn], "stream": False, "options": OPTIONS}
    body["logprobs"] = True
    status, data = daemon.call("POST", "/api/chat", body)
    return status, json.loads(data)


def test_a_model_that_sees(daemon: Any) -> None:
    """It says so, counts an image's tokens, and what is in it changes what it would answer."""
    assert "vision" in daemon.json("POST", "/api/show", {"model": "eyes"})["capabilities"]
    counts, likely = [], []
    for images in ((), (RED,), (BLUE,), (RED, BLUE)):
        status, answer = chat(daemon, *images)
        assert status == 200, answer
        counts.append(answer["prompt_eval_count"])
        likely.append(round(answer["logprobs"][0]["logprob"], 3))
    assert [count - counts[0] for count in counts] == [0, TOKENS, TOKENS, 2 * TOKENS]
    assert len(set(likely)) == len(likely)


def test_generate_takes_images_too(daemon: Any) -> None:
    """With a template and without."""
    for raw in (False, True):
        body = {"model": "eyes", "prompt": "What?", "images": encoded(RED), "raw": raw}
        answer = daemon.json("POST", "/api/generate", body | {"stream": False, "options": OPTIONS})
        assert answer["eval_count"] == 12


def test_an_image_is_counted_as_it_is_read(daemon: Any) -> None:
    """By Anthropic's route and OpenAI's, which answer with just as many."""
    source = {"type": "base64", "media_type": "image/png", "data": encoded(RED)[0]}
    turn = [{"type": "image", "source": source}, {"type": "text", "text": "What?"}]
    asked = {"model": "eyes", "messages": [{"role": "user", "content": turn}]}
    counted = daemon.json("POST", "/v1/messages/count_tokens", asked)
    answer = daemon.json("POST", "/v1/messages", asked | {"max_tokens": 2})
    assert counted["input_tokens"] == answer["usage"]["input_tokens"]
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{source['data']}"}
    question = [image, {"type": "input_text", "text": "What?"}]
    asked = {"model": "eyes", "input": [{"role": "user", "content": question}]}
    assert (
        daemon.json("POST", "/v1/responses/input_tokens", asked)["input_tokens"]
        == (counted["input_tokens"])
    )


def test_what_is_cut_goes_by_what_images_take(daemon: Any) -> None:
    """Not by how they are marked in the text, which would cost this conversation one turn more."""
    turns = [
        {"role": "user", "content": "Long. " * 20},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "And?", "images": encoded(RED, BLUE)},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Why?"},
    ]
    options = {"num_ctx": 160, "num_predict": 2}
    body = {"model": "eyes", "messages": turns, "stream": False, "truncate": True}
    answer = daemon.json("POST", "/api/chat", body | {"options": options})
    assert 100 < answer["prompt_eval_count"] < 160


def test_what_is_refused(daemon: Any) -> None:
    status, answer = chat(daemon, b"nothing of the kind")
    assert (status, "image 1 can't be read" in answer["error"]) == (400, True)
    status, answer = chat(daemon, RED[:60])
    assert (status, "image 1 can't be read; it is damaged" in answer["error"]) == (400, True)
    status, answer = chat(daemon, RED, model="blind")
    assert (status, "does not support images" in answer["error"]) == (400, True)
