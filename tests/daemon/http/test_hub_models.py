"""Models as the hub has them, pulled and used: in parts, with a projector, with parameters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.fakehub import FakeHub

from ...modelfiles.build.tiny_llama import write_tiny_llama
from ..runner.test_media import BLUE, RED
from ..runner.tiny_projector import TOKENS, write_tiny_projector
from .conftest import CHATML
from .test_pictures import chat

OPTIONS = {"temperature": 0, "num_predict": 8, "ignore_eos": True}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    root = tmp_path_factory.mktemp("repos")
    for name in ("whole", "split", "eyes", "lacking", "small"):
        (root / "org" / name).mkdir(parents=True)
    write_tiny_llama(root / "org/whole/tiny-F32.gguf", np.float32)
    write_tiny_llama(root / "org/small/small-F16.gguf", np.float16)
    write_tiny_llama(root / "org/split/tiny-F32.gguf", np.float32, tensors_a_part=8)
    write_tiny_llama(root / "org/eyes/tiny-F32.gguf", np.float32)
    write_tiny_projector(root / "org/eyes/mmproj-F16.gguf")
    (root / "org/eyes/template").write_text(CHATML)
    (root / "org/eyes/generation_config.json").write_text('{"temperature": 0.25, "top_k": 7}')
    for part in sorted((root / "org/split").iterdir())[:-1]:
        (root / "org/lacking" / part.name).write_bytes(part.read_bytes())
    with FakeHub(root) as hub:
        yield hub


@pytest.fixture(scope="module")
def daemon(hub: FakeHub, start_module_daemon: Callable[..., Any], tmp_path_factory: Any) -> Any:
    return start_module_daemon(HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path_factory.mktemp("hf")))


def pull(daemon: Any, model: str) -> str:
    status, data = daemon.call("POST", "/api/pull", {"model": model})
    assert status == 200, data
    last = json.loads(data.splitlines()[-1])
    return str(last.get("error") or last["status"])


def generate(daemon: Any, model: str) -> Any:
    body = {"model": model, "prompt": "abc", "raw": True, "stream": False, "options": OPTIONS}
    return daemon.json("POST", "/api/generate", body)["response"]


@pytest.mark.slow
def test_a_model_in_parts_arrives_whole_and_answers_alike(daemon: Any, hub: FakeHub) -> None:
    """All parts are fetched, and together they are the model that the one file is."""
    parts = sorted((hub.repos.root / "org/split").iterdir())
    assert len(parts) > 2
    assert [pull(daemon, f"hf.co/org/{name}") for name in ("whole", "split")] == ["success"] * 2
    assert generate(daemon, "hf.co/org/split") == generate(daemon, "hf.co/org/whole")
    assert pull(daemon, "hf.co/org/split:F32") == "success"


def test_a_part_that_is_missing_is_named(daemon: Any) -> None:
    told = pull(daemon, "hf.co/org/lacking")
    assert "the repository lacks" in told
    assert "parts" in told


def create(daemon: Any, name: str, **body: str) -> str:
    status, data = daemon.call("POST", "/api/create", {"model": name, **body})
    assert status == 200, data
    last = json.loads(data.splitlines()[-1])
    return str(last.get("error") or last["status"])


def test_a_draft_comes_from_the_hub(daemon: Any, hub: FakeHub) -> None:
    """Fetched where it isn't here; a layer of the new model, whose answers stay what they are."""
    assert (
        create(daemon, "quick", **{"from": "hf.co/org/whole", "draft": "hf.co/org/small"})
        == "success"
    )
    assert "\nDRAFT /" in daemon.json("POST", "/api/show", {"model": "quick"})["modelfile"]
    assert create(daemon, "plain", **{"from": "hf.co/org/whole"}) == "success"
    assert generate(daemon, "quick") == generate(daemon, "plain")
    assert pull(daemon, "hf.co/org/small") == "success"
    before = len(hub.log)
    assert create(daemon, "again", **{"from": "plain", "draft": "hf.co/org/small"}) == "success"
    assert len(hub.log) == before


def test_a_draft_of_the_hub_that_cannot_be_is_refused(daemon: Any) -> None:
    """Nothing is made of it."""
    for draft, why in (
        ("hf.co/org/none", "no repository org/none"),
        ("hf.co/org/lacking", "lacks"),
    ):
        assert why in create(daemon, "slow", **{"from": "hf.co/org/whole", "draft": draft})
    assert daemon.call("POST", "/api/show", {"model": "slow"})[0] == 404


@pytest.mark.slow
def test_a_projector_comes_along(daemon: Any) -> None:
    """The pulled model sees: an image's tokens are counted, and what is in it matters."""
    assert pull(daemon, "hf.co/org/eyes") == "success"
    shown = daemon.json("POST", "/api/show", {"model": "hf.co/org/eyes"})
    assert "vision" in shown["capabilities"]
    assert sorted(shown["parameters"].split("\n"))[0].split() == ["temperature", "0.25"]
    counts, likely = [], []
    for images in ((), (RED,), (BLUE,)):
        status, answer = chat(daemon, *images, model="hf.co/org/eyes")
        assert status == 200, answer
        counts.append(answer["prompt_eval_count"] - TOKENS * len(images))
        likely.append(round(answer["logprobs"][0]["logprob"], 3))
    assert len(set(counts)) == 1
    assert len(set(likely)) == len(likely)
