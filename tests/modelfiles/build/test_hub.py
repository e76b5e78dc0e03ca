"""What a build takes of a repository of the hub besides its weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakehub import FakeHub
from tests.modelfiles.build.convert.standins import pickle_weights, write_torch
from tests.modelfiles.build.convert.test_refused import make

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

LIMIT_S = 600  # builds stand back behind whatever else the machine does
CARD = "---\nlicense: mit\ntags:\n- small\nbase_model: org/Large-1B\n---\n# Tiny\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """One with an embedding model and a chat model that say much about themselves."""
    root = tmp_path_factory.mktemp("repos")
    pickle_weights(make(root / "org/pickled", "llama3"))
    (root / "org/pickled/.fakehub.json").write_text("{}")
    for name, family in (("bert", "bert"), ("chat", "llama3")):
        path = make(root / "org" / name, family)
        (path / ".fakehub.json").write_text("{}")
        (path / "README.md").write_text(CARD)
    (path / "params").write_text('{"stop": ["<|im_end|>"], "top_k": 7}')
    (path / "generation_config.json").write_text('{"temperature": 0.3, "top_k": 50}')
    (path / "LICENSE").write_text("Do what you like.")
    (path / "system").write_text("Be brief.")
    with FakeHub(root) as hub:
        yield hub


@pytest.fixture(scope="module")
def daemon(
    hub: FakeHub,
    start_module_daemon: Callable[..., LiveDaemon],
    tmp_path_factory: pytest.TempPathFactory,
) -> LiveDaemon:
    """With a stand-in for torch."""
    write_torch(packages := tmp_path_factory.mktemp("packages"))
    cache = str(tmp_path_factory.mktemp("hf"))
    path = os.pathsep.join(filter(None, (str(packages), os.environ.get("PYTHONPATH", ""))))
    return start_module_daemon(HF_ENDPOINT=hub.url, HF_HOME=cache, PYTHONPATH=path)


def test_how_texts_become_vectors_comes_along(daemon: LiveDaemon) -> None:
    """It lies in a folder of its own, beside another config.json."""
    done = daemon.qm("create", "bert", "--from", "hf.co/org/bert", limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    info = daemon.json("POST", "/api/show", {"model": "bert"})["model_info"]
    assert info["bert.pooling_type"] == 1
    assert info["bert.embedding_length"] == 64


def test_parameters_and_licence_as_a_pull_takes_them(daemon: LiveDaemon, tmp_path: Path) -> None:
    """What the Modelfile says itself holds."""
    text = "FROM hf.co/org/chat\nPARAMETER top_k 9\nSYSTEM Be long.\nQUANTIZE Q8_0\n"
    (tmp_path / "Modelfile").write_text(text)
    done = daemon.qm("create", "chat", "-f", str(tmp_path / "Modelfile"), limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    shown = daemon.json("POST", "/api/show", {"model": "chat"})
    lines = {" ".join(line.split()) for line in shown["parameters"].splitlines()}
    assert lines == {"temperature 0.3", "top_k 9", 'stop "<|im_end|>"'}
    assert shown["license"] == "Do what you like."
    assert shown["system"] == "Be long."


def test_the_card_becomes_metadata(daemon: LiveDaemon, tmp_path: Path) -> None:
    """From the hub and from a directory alike, as the upstream converter has it."""
    path = make(tmp_path / "chat", "llama3")
    (path / "README.md").write_text(CARD)
    made = daemon.qm("create", "local", "--from", str(path), limit_s=LIMIT_S)
    assert made.returncode == 0, made.stderr
    shutil.rmtree(path)
    for name in ("chat", "local"):
        info = daemon.json("POST", "/api/show", {"model": name, "verbose": True})["model_info"]
        assert info["general.license"] == "mit"
        assert info["general.tags"] == ["small"]
        assert info["general.base_model.0.name"] == "Large 1B"
        assert json.dumps(info)


def test_pickles_of_the_hub_are_opened_when_asked_for(daemon: LiveDaemon, tmp_path: Path) -> None:
    """By the child, with the same weights as from safetensors; rebuilt and locked like others."""
    refused = daemon.qm("create", "pickled", "--from", "hf.co/org/pickled", limit_s=LIMIT_S)
    assert refused.returncode != 0
    assert "--allow-pickle" in refused.stderr
    command = ("create", "pickled", "--from", "hf.co/org/pickled", "--allow-pickle")
    done = daemon.qm(*command, limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    tensors = daemon.json("POST", "/api/show", {"model": "pickled", "verbose": True})["tensors"]
    assert any(each["name"] == "output_norm.weight" for each in tensors)
    checked = daemon.qm("rebuild", "--check", "pickled", limit_s=LIMIT_S)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    lockfile = tmp_path / "qm.lock"
    assert daemon.qm("lock", "pickled", "-f", str(lockfile)).returncode == 0
    assert json.loads(lockfile.read_text())["models"]["pickled"]["request"]["allow_pickle"] is True
