"""`qm import` and `qm export` with the real model and a live daemon."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

SURE = ("-p", "temperature=0", "-p", "num_predict=12")


@pytest.fixture(scope="module")
def daemon(start_module_daemon: Callable[..., LiveDaemon]) -> LiveDaemon:
    return start_module_daemon()


@pytest.fixture(scope="module")
def ollama_store(live_daemon: LiveDaemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Ollama store with smollm2, written by export."""
    path = tmp_path_factory.mktemp("ollama") / "models"
    done = live_daemon.qm("export", "smollm2", str(path), "--ollama")
    assert done.returncode == 0, done.stderr
    return path


def imported(daemon: LiveDaemon, *arguments: object) -> list[Any]:
    done = daemon.qm("import", *map(str, arguments), "--json")
    assert done.returncode == 0, done.stderr
    models: list[Any] = json.loads(done.stdout)
    return models


def test_an_exported_store_is_laid_out_as_ollamas(ollama_store: Path) -> None:
    """manifests/registry.ollama.ai/library/model/tag, and blobs with a dash."""
    manifest = ollama_store / "manifests/registry.ollama.ai/library/smollm2/latest"
    document = json.loads(manifest.read_bytes())
    for blob in (document["config"], *document["layers"]):
        path = ollama_store / "blobs" / blob["digest"].replace(":", "-")
        assert path.stat().st_size == blob["size"]


def test_an_ollama_store_is_imported_and_runs(daemon: LiveDaemon, ollama_store: Path) -> None:
    """A dry run changes nothing; then the model has its name, its digest, and answers."""
    (found,) = imported(daemon, ollama_store, "--dry-run")
    assert (found["name"], found["outcome"]) == ("smollm2:latest", "would import")
    assert daemon.json("GET", "/api/tags")["models"] == []
    (model,) = imported(daemon, ollama_store)
    assert model["outcome"] == "imported"
    assert model["how"] in ("link", "reflink")
    assert "Paris" in daemon.qm("run", "smollm2", *SURE, "What is the capital of France?").stdout
    (again,) = imported(daemon, ollama_store)
    assert again["outcome"] == "present"
    assert str(ollama_store) in daemon.qm("df").stdout


def test_a_gguf_comes_in_and_out(daemon: LiveDaemon, smollm2_gguf: Path, tmp_path: Path) -> None:
    """Under a name of one's own, and back to the very same bytes."""
    source = tmp_path / "tiny-Q4_1.gguf"
    shutil.copyfile(smollm2_gguf, source)
    (model,) = imported(daemon, source, "--name", "tiny")
    assert (model["name"], model["outcome"]) == ("tiny:latest", "imported")
    target = tmp_path / "out.gguf"
    assert daemon.qm("export", "tiny", str(target)).stdout == f"{target}\n"
    assert target.read_bytes() == source.read_bytes()
    again = daemon.qm("export", "tiny", str(target))
    assert (again.returncode, "already" in again.stderr) == (1, True)
    assert "freed 0 B" not in daemon.qm("rm", "tiny").stdout
    assert source.exists()


def test_a_file_on_another_disk_is_used_in_place(
    start_daemon: Callable[..., LiveDaemon], smollm2_gguf: Path
) -> None:
    """It runs from where it is, and when it is gone only its own model is broken."""
    daemon, other_disk = start_daemon(), Path("/dev/shm")
    if not other_disk.is_dir() or other_disk.stat().st_dev == daemon.home.stat().st_dev:
        pytest.fail("no second file system to test with; mount a tmpfs on /dev/shm")
    source = other_disk / f"qm-test-{os.getpid()}" / "elsewhere.gguf"
    source.parent.mkdir()
    try:
        shutil.copyfile(smollm2_gguf, source)
        (model,) = imported(daemon, source)
        assert (model["outcome"], model["how"]) == ("imported", "in place")
        assert daemon.qm("run", "elsewhere", *SURE, "Say apple.").stdout
        daemon.qm("stop", "elsewhere")
        source.unlink()
        refused = daemon.qm("run", "elsewhere", *SURE, "Say apple.")
        assert (refused.returncode, "plug its disk in" in refused.stderr) == (1, True)
        assert "elsewhere" in daemon.qm("list").stdout
        freed = daemon.qm("rm", "elsewhere").stdout  # its config is ours, its weights are not
        assert freed.startswith("deleted 'elsewhere', freed ")
        assert freed.endswith(" B\n")
    finally:
        shutil.rmtree(source.parent)


def test_what_can_not_be_used_is_said(daemon: LiveDaemon, tmp_path: Path) -> None:
    """One bad file: a reason, exit code 1, and no model."""
    (tmp_path / "bad.gguf").write_bytes(b"no")
    done = daemon.qm("import", str(tmp_path))
    assert done.returncode == 1
    assert "no readable GGUF" in done.stdout
    assert daemon.qm("import", str(tmp_path / "gone")).returncode == 2
    assert daemon.qm("export", "nothing", str(tmp_path / "x")).returncode == 1
