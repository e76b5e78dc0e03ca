"""What llama.cpp calculates otherwise than the repository's model is said, and nothing else.

Each of these was seen: with it the logits of a tiny model differ from those of transformers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from qm.modelfiles.build.convert.differences import differences
from qm.modelfiles.build.create import create
from qm.modelfiles.create_request import from_create_request
from qm.store.name import Name
from qm.store.store import open_store

from tests.modelfiles.build.convert.families import DECODER, FAMILIES, LLAMA3, model
from tests.modelfiles.build.convert.tiny import write_repository

RECORDED = Path(__file__).parent / "recorded"
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 32}


def told(folder: Path, config: dict[str, Any]) -> list[str]:
    (folder / "config.json").write_text(json.dumps(config))
    return differences(folder / "config.json")


@pytest.mark.parametrize(
    ("architecture", "values", "about"),
    [
        ("MistralForCausalLM", {"sliding_window": 64}, "last 64 tokens"),
        ("Phi3ForCausalLM", {"sliding_window": 64}, "last 64 tokens"),
        ("Starcoder2ForCausalLM", {"sliding_window": 64}, "last 64 tokens"),
        ("Qwen2ForCausalLM", {"sliding_window": 64, "use_sliding_window": True}, "last 64 tokens"),
        ("Qwen2ForCausalLM", {"rope_scaling": LLAMA3}, "Llama 3's"),
        ("LlamaForCausalLM", {"rope_scaling": {"type": "dynamic"}}, "rope_type dynamic"),
        (
            "LlamaForCausalLM",
            {"rope_parameters": {"rope_type": "yarn", "attention_factor": 1.2}},
            "attention_factor",
        ),
        ("Gemma2ForCausalLM", {"rope_theta": 500000.0}, "rotations"),
        ("Gemma2ForCausalLM", GEMMA, "query_pre_attn_scalar is 32"),
        ("Qwen2MoeForCausalLM", {"norm_topk_prob": True}, "norm_topk_prob is true"),
        ("Qwen3MoeForCausalLM", {"norm_topk_prob": False}, "norm_topk_prob is false"),
        ("LlamaForCausalLM", {"hidden_act": "gelu"}, "activation is gelu"),
    ],
)
def test_names_what_is_different(
    architecture: str, values: dict[str, Any], about: str, tmp_path: Path
) -> None:
    """One sentence with the word of config.json."""
    (sentence,) = told(tmp_path, model(architecture, "x", DECODER, **values))
    assert about in sentence


@pytest.mark.parametrize(
    "values",
    [
        {"sliding_window": 64, "use_sliding_window": False},
        {"sliding_window": 64},
        {"sliding_window": None, "use_sliding_window": True},
        {"sliding_window": 512, "use_sliding_window": True},
    ],
)
def test_a_window_that_is_not_used_is_no_difference(values: dict[str, Any], tmp_path: Path) -> None:
    """Qwen's repositories say a window that is switched off."""
    assert told(tmp_path, model("Qwen2ForCausalLM", "qwen2", DECODER, **values)) == []


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_usual_models_have_none(family: str, tmp_path: Path) -> None:
    """Those whose logits were found to be the same."""
    assert told(tmp_path, FAMILIES[family]["config"]) == []


@pytest.mark.parametrize("config", [{}, {"architectures": ["X"]}, {"architectures": [1]}])
def test_a_poor_description_is_left_to_the_conversion(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """Which says what is wrong with it."""
    assert told(tmp_path, config) == []


def test_a_build_says_it_and_records_it(tmp_path: Path) -> None:
    """While it goes on, and in the provenance, also when the conversion was done before."""
    repository = json.loads((RECORDED / "mistral.json").read_text())["repository"]
    write_repository(
        tmp_path / "tiny", **repository | {"config": repository["config"] | {"sliding_window": 64}}
    )
    store, said = open_store(tmp_path / "home"), list[dict[str, object]]()
    files = {
        path.name: store.blobs.put(path.read_bytes()) for path in (tmp_path / "tiny").iterdir()
    }
    for name in ("first", "second"):
        said.clear()
        spec = from_create_request({"files": files})
        manifest = create(store, Name.parse(name), spec, said.append)
        assert any("last 64 tokens" in str(each.get("status")) for each in said)
        config = json.loads(store.blobs.path(manifest.config.digest).read_bytes())
        (note,) = config["qm"]["provenance"]["notes"]
        assert "last 64 tokens" in note
