"""Quantised repositories give the GGUF of the numbers that their codes and scales stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qm.modelfiles.build.convert import convert
from qm.modelfiles.build.convert.errors import (
    BadConfig,
    BadTensor,
    MissingWeights,
    NotDequantizable,
)

from tests.modelfiles.build.convert.described import described
from tests.modelfiles.build.convert.quantised_cases import (
    BASE,
    CASES,
    INPUTS,
    OUTPUTS,
    Stored,
    fp8_blocks,
    gptq,
)
from tests.modelfiles.build.convert.tiny import Json, weights, write_safetensors
from tests.modelfiles.build.convert.tiny import write_repository as write_plain

RECORDED = Path(__file__).parent / "recorded/llama2.json"


def write_repository(path: Path, method: Json | None, stored: Stored) -> Path:
    """A tiny Llama in which one weight is stored as given, and the others as float32."""
    repository = json.loads(RECORDED.read_text())["repository"]
    config = repository["config"] | ({"quantization_config": method} if method else {})
    shapes = repository["tensors"]
    assert shapes[f"{BASE}.weight"] == [OUTPUTS, INPUTS]
    write_plain(path, config, {}, tokenizer="sentencepiece")
    plain = {
        name: ("F32", weights(name, shape))
        for name, shape in shapes.items()
        if name != f"{BASE}.weight"
    }
    write_safetensors(path / "model.safetensors", plain | stored)
    return path


def converted(path: Path) -> Json:
    out = path.with_suffix(".gguf")
    with out.open("wb") as file:
        convert(path, file, out_type="f32", name="tiny")
    return described(out)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_repository_of_the_numbers_meant(case: str, tmp_path: Path) -> None:
    """Quantised or not, the same pairs and the same bytes of every tensor come out."""
    method, stored, real = CASES[case]()
    real = np.ascontiguousarray(real, dtype=np.float32)
    plain = write_repository(tmp_path / "plain", None, {f"{BASE}.weight": ("F32", real)})
    quantised = write_repository(tmp_path / "quantised", method, stored)
    assert converted(quantised) == converted(plain)


@pytest.mark.parametrize(
    ("case", "file", "wraps"),
    [
        ("gptq 4, act-order", "quantize_config.json", ""),
        ("awq", "quant_config.json", ""),
        ("fp8 of ModelOpt", "hf_quant_config.json", "quantization"),
    ],
)
def test_older_repositories_say_it_in_a_file_of_its_own(
    case: str, file: str, wraps: str, tmp_path: Path
) -> None:
    """Which has no name for the method."""
    method, stored, _ = CASES[case]()
    newer = write_repository(tmp_path / "newer", method, stored)
    older = write_repository(tmp_path / "older", None, stored)
    said = {key: value for key, value in method.items() if key != "quant_method"}
    (older / file).write_text(json.dumps({wraps: said} if wraps else said))
    assert converted(older) == converted(newer)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"quant_method": "exl2", "bits": 4.0}, "EXL2"),
        ({"quant_method": "hqq"}, "hqq"),
        ({"quant_method": "gptq", "bits": 5}, "5 bits"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "gemv"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "W4A8_AWQ"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "format"),
        ({"quant_method": "compressed-tensors", "format": "marlin-24"}, "marlin-24"),
    ],
)
def test_says_what_can_not_be_undone(method: Json, words: str, tmp_path: Path) -> None:
    """The error names the method, not a stack of ours."""
    _, stored, _ = gptq(4, act_order=False)
    path = write_repository(tmp_path / "tiny", method, stored)
    with pytest.raises(NotDequantizable, match=words):
        converted(path)


@pytest.mark.parametrize("missing", ["qzeros", "scales"])
def test_names_the_part_that_is_missing(missing: str, tmp_path: Path) -> None:
    """A checkpoint without its scales is incomplete."""
    method, stored, _ = gptq(4, act_order=False)
    del stored[f"{BASE}.{missing}"]
    with pytest.raises(MissingWeights, match=missing):
        converted(write_repository(tmp_path / "tiny", method, stored))


@pytest.mark.parametrize(
    ("case", "part"),
    [
        ("bitsandbytes int8", "SCB"),
        ("bitsandbytes nf4", "weight.absmax"),
        ("bitsandbytes nf4", "weight.quant_map"),
        ("gptq 4", "qzeros"),
        ("awq", "qzeros"),
        ("awq", "qweight"),
        ("gptq 4", "scales"),
        ("fp8 in rows", "weight_scale"),
        ("compressed int4, asymmetric", "weight_zero_point"),
        ("compressed int4", "weight_shape"),
        ("NVFP4 of ModelOpt", "weight_scale_2"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_words(case: str, part: str, tmp_path: Path) -> None:
    """With the weight's name; the shapes are a stranger's."""
    method, stored, _ = CASES[case]()
    kind, numbers = stored[f"{BASE}.{part}"]
    stored[f"{BASE}.{part}"] = (kind, numbers[:0] if len(numbers) < 3 else numbers[:3])
    with pytest.raises((NotDequantizable, BadConfig), match=r"v_proj|scales"):
        converted(write_repository(tmp_path / "tiny", method, stored))


def test_refuses_a_group_beyond_the_scales(tmp_path: Path) -> None:
    """Indices come from strangers."""
    method, stored, _ = gptq(4, act_order=True)
    stored[f"{BASE}.g_idx"] = ("I32", np.full(INPUTS, 99, np.int32))
    with pytest.raises(NotDequantizable, match="groups"):
        converted(write_repository(tmp_path / "tiny", method, stored))


def test_refuses_nan_after_scaling(tmp_path: Path) -> None:
    """A code that stands for no number."""
    method, stored, _ = fp8_blocks()
    raw: Any = stored[f"{BASE}.weight"][1].copy()
    raw[0, 0] = 0x7F
    stored[f"{BASE}.weight"] = ("F8_E4M3", raw)
    with pytest.raises(BadTensor, match="NaN"):
        converted(write_repository(tmp_path / "tiny", method, stored))
