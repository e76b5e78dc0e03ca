"""What the extra does is done in a child: here with stand-ins for its packages, which are huge."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from qm.modelfiles.build.convert import architecture, convert
from qm.modelfiles.build.convert.child import ChildFailed
from qm.modelfiles.build.convert.errors import PickleRefused, UnknownArchitecture
from qm.modelfiles.build.convert.unpickle import NoTorch, pickles_of

from tests.modelfiles.build.convert.standins import pickle_weights, write_torch
from tests.modelfiles.build.convert.tiny import write_repository

RECORDED = Path(__file__).parent / "recorded/llama3.json"

# Converts as qm does, after pretending that the architecture is known
CONVERTER = """
import argparse, json, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("--outfile", type=pathlib.Path)
parser.add_argument("--outtype")
parser.add_argument("--model-name")
arguments = parser.parse_args()
assert "HF_TOKEN" not in os.environ and os.environ["HF_HUB_OFFLINE"] == "1"
config = arguments.model / "config.json"
values = json.loads(config.read_text())
if values["architectures"] != ["NewForCausalLM"]:
    raise SystemExit("a model that it does not know either")
config.write_text(json.dumps(values | {"architectures": ["LlamaForCausalLM"]}))
from qm.modelfiles.build.convert import convert
with arguments.outfile.open("wb") as out:
    convert(arguments.model, out, out_type=arguments.outtype, name=arguments.model_name)
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A tiny Llama 3 whose config.json names an architecture that nobody knows."""
    repository = json.loads(RECORDED.read_text())["repository"]
    write_repository(tmp_path / "tiny", **repository)
    return tmp_path / "tiny"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which this process and its children import."""
    folder = tmp_path / "packages"
    folder.mkdir()
    inherited = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), inherited))))
    monkeypatch.syspath_prepend(str(folder))
    return folder


def rename_architecture(path: Path, name: str) -> None:
    config = path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": [name]}))


def converted(path: Path, *, allow_pickle: bool = False) -> bytes:
    out = io.BytesIO()
    convert(path, out, out_type="f16", name="tiny", allow_pickle=allow_pickle)
    return out.getvalue()


def test_unknown_architectures_go_to_the_extra(
    tiny: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file comes out whole, and it saw none of our secrets."""
    wanted = converted(tiny)
    rename_architecture(tiny, "NewForCausalLM")
    with pytest.raises(UnknownArchitecture, match=r"qm\[convert\]"):
        converted(tiny)
    (packages / "convert_hf_to_gguf.py").write_text(CONVERTER)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert architecture(tiny) == "NewForCausalLM"
    progress: list[tuple[int, int]] = []
    out = io.BytesIO()
    report = convert(
        tiny, out, out_type="f16", name="tiny", on_progress=lambda *done: progress.append(done)
    )
    assert out.getvalue() == wanted
    assert (report.architecture, report.file_type) == ("llama", "F16")
    assert progress[-1] == (len(wanted), len(wanted))


def test_the_extras_last_words_are_the_error(tiny: Path, packages: Path) -> None:
    """Also when it does not know the architecture."""
    (packages / "convert_hf_to_gguf.py").write_text(CONVERTER)
    rename_architecture(tiny, "StrangeForCausalLM")
    with pytest.raises(ChildFailed, match="does not know either"):
        converted(tiny)


def test_pickles_need_leave_and_torch(tiny: Path, packages: Path) -> None:
    """Refused, then refused for want of torch, then opened in the child."""
    wanted = converted(tiny)
    pickle_weights(tiny)
    with pytest.raises(PickleRefused):
        converted(tiny)
    with pytest.raises(NoTorch, match=r"qm\[convert\]"):
        converted(tiny, allow_pickle=True)
    write_torch(packages)
    assert converted(tiny, allow_pickle=True) == wanted


def test_only_the_models_own_pickles_are_opened(tmp_path: Path) -> None:
    """What a training run leaves beside them is not the model."""
    for name in ("optimizer.pt", "training_args.bin", "pytorch_model-00001-of-00001.bin"):
        (tmp_path / name).touch()
    assert [path.name for path in pickles_of(tmp_path)] == ["pytorch_model-00001-of-00001.bin"]
