"""Pulling through the daemon: progress, refusals, and a model that answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import LiveDaemon
from tests.fakehub import FakeHub

MODEL = "hf.co/org/smol:Q4_1"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, smollm2_gguf: Path) -> Iterator[FakeHub]:
    """A repository as people make them: a GGUF and what goes with it."""
    root = tmp_path_factory.mktemp("repos")
    folder = root / "org/smol"
    folder.mkdir(parents=True)
    shutil.copy(smollm2_gguf, folder / "SmolLM2-135M-Instruct.Q4_1.gguf")
    (folder / "params").write_text('{"temperature": 0.25, "no_such": 1}')
    (folder / "system").write_text("You are brief.")
    (folder / "LICENSE").write_text("Apache License 2.0")
    (folder / ".fakehub.json").write_text("{}")
    with FakeHub(root) as hub:
        yield hub


@pytest.fixture(scope="module")
def daemon(hub: FakeHub, start_hub_daemon: Callable[[FakeHub], LiveDaemon]) -> LiveDaemon:
    return start_hub_daemon(hub)


def lines(daemon: LiveDaemon, model: str) -> list[dict[str, object]]:
    status, data = daemon.call("POST", "/api/pull", {"model": model})
    assert status == 200, data
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.slow
def test_a_pulled_model_answers(daemon: LiveDaemon, hub: FakeHub) -> None:
    """With Ollama's statuses on the way, and what the repository says about it."""
    told = lines(daemon, MODEL)
    statuses = list(dict.fromkeys(str(line["status"]) for line in told))
    assert statuses == [
        "pulling manifest",
        f"pulling {statuses[1].split()[1]}",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    counting = [line for line in told if "completed" in line]
    assert counting[-1]["completed"] == counting[-1]["total"] == 98362432
    shown = daemon.json("POST", "/api/show", {"model": MODEL})
    assert shown["parameters"].split() == ["temperature", "0.25"]
    assert shown["system"] == "You are brief."
    assert shown["license"] == "Apache License 2.0"
    body = {"model": MODEL, "prompt": "Say hi.", "stream": False, "options": {"num_predict": 4}}
    assert daemon.json("POST", "/api/generate", body)["eval_count"] > 0
    hub.log.clear()
    assert lines(daemon, MODEL)[-1] == {"status": "success"}
    assert hub.sent_bytes() == 0


@pytest.mark.parametrize(
    ("model", "status", "words"),
    [
        ("hf.co/org/smol:Q9_9", 404, "hf.co/org/smol:Q4_1  98.4 MB"),
        ("hf.co/org/nosuch", 404, "no repository org/nosuch"),
        ("hf.co/org/smol@v9", 404, "no revision 'v9'"),
        ("hf.co/org", 400, "organisation and a repository"),
        ("", 400, "model"),
    ],
)
def test_what_can_not_be_pulled_says_why(
    daemon: LiveDaemon, model: str, status: int, words: str
) -> None:
    """Without a stream by status, too."""
    got, data = daemon.call("POST", "/api/pull", {"model": model, "stream": False})
    assert (got, words in data.decode()) == (status, True), data


def test_a_stream_ends_with_its_error(daemon: LiveDaemon) -> None:
    """After the first status it is the last line."""
    told = lines(daemon, "hf.co/org/nosuch")
    assert told[0] == {"status": "pulling manifest"}
    assert "no repository" in str(told[-1]["error"])


def test_an_empty_body_is_refused_as_ollama_does(daemon: LiveDaemon) -> None:
    status, data = daemon.call("POST", "/api/pull")
    assert (status, json.loads(data)) == (400, {"error": "missing request body"})
