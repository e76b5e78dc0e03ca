"""`qm store move`, under a daemon that goes on answering."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .runner.tiny_models import write_tiny_model

if TYPE_CHECKING:
    from ..conftest import LiveDaemon

ASK = ("run", "tiny", "-p", "temperature=0", "-p", "num_predict=8", "The capital of France is")


@pytest.fixture
def daemon(start_daemon: Callable[..., LiveDaemon], tmp_path: Path) -> LiveDaemon:
    daemon = start_daemon(QM_KEEP_ALIVE="-1")
    model = write_tiny_model(tmp_path / "model.gguf", "llama")
    made = daemon.qm("create", "tiny", "--from", str(model))
    assert made.returncode == 0, made.stderr
    return daemon


@pytest.mark.slow
def test_the_store_moves_while_its_models_answer(
    daemon: LiveDaemon, start_daemon: Callable[..., LiveDaemon], tmp_path: Path
) -> None:
    """An answer under way goes on to its end; later ones, and later starts, find the new place."""
    before = daemon.qm(*ASK)
    assert before.returncode == 0, before.stderr
    body = {
        "model": "tiny",
        "prompt": "Once upon a time",
        "options": {"temperature": 0, "num_predict": 500, "ignore_eos": True},
    }
    target = tmp_path / "elsewhere" / "models"
    with daemon.stream("/api/generate", body) as answer:
        next(answer)
        moved = daemon.qm("store", "move", str(target))
        assert moved.returncode == 0, moved.stderr
        assert list(answer)[-1]["eval_count"] == 500
    assert moved.stdout == f"the store is at {target}\n"
    assert not (daemon.home / "blobs").exists()
    assert daemon.qm("store", "path").stdout == f"{target}\n"
    assert daemon.qm(*ASK).stdout == before.stdout
    assert daemon.qm("verify").returncode == 0
    assert daemon.qm("cp", "tiny", "second").returncode == 0
    assert daemon.stop() == 0
    again = start_daemon(home=daemon.home)
    assert again.qm("store", "path").stdout == f"{target}\n"
    assert again.qm(*ASK).stdout == before.stdout
    assert again.qm("rm", "second").returncode == 0
    back = again.qm("store", "move", str(daemon.home))
    assert back.returncode == 0, back.stderr
    assert again.qm(*ASK).stdout == before.stdout
    assert {path.name for path in target.iterdir()} == {"moved-to", "daemon.lock"}
    assert again.qm("store", "move", f"{tmp_path}/x/../elsewhere/models").returncode == 0
    assert again.qm("store", "path").stdout == f"{target}\n"


@pytest.fixture(scope="module")
def idle(start_module_daemon: Callable[..., LiveDaemon]) -> LiveDaemon:
    """Without any model."""
    return start_module_daemon()


@pytest.mark.parametrize("where", ["inside", "foreign", "itself", "file"])
def test_a_place_that_can_not_be_is_refused(idle: LiveDaemon, tmp_path: Path, where: str) -> None:
    """Nothing of anybody else is touched, and the store stays where it is."""
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    target = {"inside": idle.home / "blobs" / "x", "itself": idle.home}.get(where, tmp_path / where)
    status, data = idle.call("POST", "/qm/store/move", {"path": str(target)})
    last = json.loads(data.splitlines()[-1])
    assert "error" in last, (status, data)
    assert (tmp_path / "foreign" / "letter.txt").read_text() == "mine"
    assert idle.json("GET", "/qm/status")["store"] == str(idle.home)
