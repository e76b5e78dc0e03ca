"""Tiny models of every family: what upstream's converter writes, and what transformers calculates.

`recorded/` holds what `record.py` saw; the repositories themselves are made anew here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from qm.modelfiles.build.convert import OutType, architecture, convert

from tests.modelfiles.build.convert.described import described
from tests.modelfiles.build.convert.evaluate import last_state
from tests.modelfiles.build.convert.tiny import weights, write_repository, write_safetensors

RECORDED = {path.stem: path for path in (Path(__file__).parent / "recorded").glob("*.json")}
PROMPT = [5, 17, 66, 20, 57, 9, 80, 33]
# where upstream's converter fails, or makes what llama.cpp can't load or calculates otherwise
OURS_ALONE = (
    *("stablelm_norms", "gemma_json", "olmo2_tied", "gpt_neox_tied", "starcoder2_plain"),
    *("falcon_11b", "deepseek3_mute"),
)
ENCODERS = ("bert", "roberta", "xlm_roberta", "modernbert")

Recorded = dict[str, Any]  # Any: a JSON document


@pytest.fixture(params=sorted(RECORDED))
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """One family's record, and its `name`."""
    document = json.loads(RECORDED[request.param].read_text())
    assert isinstance(document, dict)
    return document | {"name": request.param}


def made(recorded: Recorded, folder: Path, out_type: OutType) -> Path:
    """The GGUF of the recorded repository."""
    source, out = folder / "tiny", folder / "out.gguf"
    write_repository(source, **recorded["repository"])
    with out.open("wb") as file:
        report = convert(source, file, out_type=out_type, name="tiny")
    assert report.architecture == architecture(source)
    assert report.written_bytes == out.stat().st_size
    return out


def test_equals_the_upstream_converter(recorded: Recorded, tmp_path: Path) -> None:
    """The same pairs in the same order, and tensors likewise, of the same types and bytes."""
    ours = described(made(recorded, tmp_path, recorded["out_type"]))
    if recorded["upstream"] is None:
        assert recorded["name"] in OURS_ALONE
        return
    pairs = json.loads(json.dumps(ours["pairs"]))
    assert list(pairs.items()) == list(recorded["upstream"]["pairs"].items())
    assert list(ours["tensors"].items()) == list(recorded["upstream"]["tensors"].items())


def test_calculates_what_transformers_does(recorded: Recorded, tmp_path: Path) -> None:
    """llama.cpp runs the file, and its logits differ by less than one percent."""
    encoder = recorded["name"] in ENCODERS
    found = last_state(made(recorded, tmp_path, "f32"), PROMPT, encoder=encoder)
    assert np.isfinite(found).all()
    if not recorded["logits"]:
        return
    wanted = np.array(recorded["logits"])
    assert np.abs(found[: len(wanted)] - wanted).max() < 0.01 * np.abs(wanted).max()


def test_gemmas_norms_are_rounded_as_upstream_rounds_them(tmp_path: Path) -> None:
    """One is added in half precision where the repository has that, in float32 otherwise."""
    family = json.loads(RECORDED["gemma"].read_text())["repository"]
    write_repository(tmp_path / "tiny", **family)
    norm = np.linspace(0.1, 1.9, 64, dtype=np.float16)
    tensors = {name: ("F16", weights(name, shape)) for name, shape in family["tensors"].items()}
    tensors["model.norm.weight"] = ("F16", norm)
    write_safetensors(tmp_path / "tiny/model.safetensors", tensors)
    with (tmp_path / "out.gguf").open("wb") as file:
        convert(tmp_path / "tiny", file, name="tiny")
    found = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "out.gguf").tensors}
    exactly = norm.astype(np.float32) + 1
    rounded = (norm + np.float16(1)).astype(np.float32)
    assert (rounded != exactly).any()
    assert np.array_equal(found["output_norm.weight"], rounded)
