"""Deltas and LoRA adapters: what llama.cpp calculates with them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from qm.modelfiles.build.convert import convert, convert_lora
from qm.modelfiles.build.convert.errors import (
    BadConfig,
    ConversionError,
    MissingWeights,
    NotDequantizable,
    PickleRefused,
    Truncated,
)
from qm.modelfiles.build.merge import DeltaMismatch

from tests.modelfiles.build.convert.evaluate import last_state
from tests.modelfiles.build.convert.tiny import (
    Array,
    Json,
    weights,
    write_repository,
    write_safetensors,
)

RECORDED = Path(__file__).parent / "convert/recorded"
PROMPT = [5, 17, 66, 20, 57, 9, 80, 33]
RANK, ALPHA = 4, 16.0


def base(path: Path, family: str = "llama2") -> dict[str, list[int]]:
    """Lays the family's tiny model out in `path`, stored in float32; gives its tensors' shapes."""
    repository = json.loads((RECORDED / f"{family}.json").read_text())["repository"]
    write_repository(path, **repository | {"dtype": "F32"})
    shapes: dict[str, list[int]] = repository["tensors"]
    return shapes


def converted(path: Path, **options: Any) -> Path:  # Any: options of convert
    out = path.with_suffix(".gguf")
    with out.open("wb") as file:
        convert(path, file, out_type="f32", name="tiny", **options)
    return out


def tensors(path: Path) -> dict[str, Array]:
    return {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}


def write_adapter(path: Path, shapes: dict[str, list[int]], *, turned: bool, **config: Any) -> Path:
    """A LoRA of every matrix of the attention and feed-forward."""
    path.mkdir()
    text = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "fan_in_fan_out": turned}
    (path / "adapter_config.json").write_text(json.dumps(text | config))
    stored: dict[str, tuple[str, Array]] = {}
    for name, shape in shapes.items():
        if len(shape) == 2 and ".0." in name:
            outputs, inputs = reversed(shape) if turned else shape
            for half, size in (("A", (RANK, inputs)), ("B", (outputs, RANK))):
                full = f"base_model.model.{name.removesuffix('.weight')}.lora_{half}.weight"
                stored[full] = ("F32", 3 * weights(full, size))
    write_safetensors(path / "adapter_model.safetensors", stored)
    return path


def with_adapter(model: Path, adapter: Path) -> Array:
    """The last logits with the GGUF adapter applied as the model runs."""
    return last_state(model, PROMPT, encoder=False, adapter=adapter)


@pytest.mark.parametrize(
    ("family", "turned"),
    [("llama2", False), ("qwen2", False), ("bloom", False), ("gpt2", True), ("phi3", False)],
)
def test_adapter_at_load_equals_adapter_in_the_weights(
    family: str, turned: bool, tmp_path: Path
) -> None:
    """Both ways to use a LoRA give the same logits, and others than without it."""
    shapes = base(tmp_path / "tiny", family)
    adapter = write_adapter(tmp_path / "adapter", shapes, turned=turned)
    out = tmp_path / "adapter.gguf"
    with out.open("wb") as file:
        size = convert_lora(adapter, tmp_path / "tiny", file, name="adapter")
    assert size == out.stat().st_size
    plain = converted(tmp_path / "tiny")
    applied, alone = with_adapter(plain, out), last_state(plain, PROMPT, encoder=False)
    merged = converted(tmp_path / "tiny", merge_adapters=[adapter])
    found = last_state(merged, PROMPT, encoder=False)
    assert np.abs(found - applied).max() < 1e-3 * np.abs(found).max()
    assert np.abs(found - alone).max() > 0.05 * np.abs(found).max()


def test_strength_of_rank_stabilised_adapters(tmp_path: Path) -> None:
    """alpha by the square root of the rank, in the weights as in the GGUF."""
    shapes = base(tmp_path / "tiny")
    adapter = write_adapter(tmp_path / "adapter", shapes, turned=False, use_rslora=True)
    name = "model.layers.0.mlp.up_proj"
    a, b = (
        3 * weights(f"base_model.model.{name}.lora_{half}.weight", size)
        for half, size in (("A", (RANK, 64)), ("B", (128, RANK)))
    )
    wanted = weights(f"{name}.weight", (128, 64)) + ALPHA / 2 * b @ a
    merged = tensors(converted(tmp_path / "tiny", merge_adapters=[adapter]))
    assert np.allclose(merged["blk.0.ffn_up.weight"], wanted, rtol=1e-5, atol=1e-6)
    out = tmp_path / "adapter.gguf"
    with out.open("wb") as file:
        convert_lora(adapter, tmp_path / "tiny", file)
    field = GGUFReader(out).fields["adapter.lora.alpha"]
    assert field.contents() == pytest.approx(ALPHA * 2)


@pytest.mark.parametrize("rslora", [False, True])
def test_layers_with_a_strength_of_their_own(rslora: bool, tmp_path: Path) -> None:
    """By patterns as PEFT reads them, and by ranks: the GGUF adapter does what merging does."""
    shapes = base(tmp_path / "tiny")
    patterns = {r"layers\.0\.mlp\.up_proj": 3, "q_proj|up_proj": 60.0, "mlp.gate_proj": 1}
    config = {"alpha_pattern": patterns, "rank_pattern": {"v_proj": RANK}, "r": 2 * RANK}
    adapter = write_adapter(tmp_path / "adapter", shapes, turned=False, use_rslora=rslora, **config)
    out = tmp_path / "adapter.gguf"
    with out.open("wb") as file:
        convert_lora(adapter, tmp_path / "tiny", file)
    applied = with_adapter(converted(tmp_path / "tiny"), out)
    merged = converted(tmp_path / "tiny", merge_adapters=[adapter])
    found = last_state(merged, PROMPT, encoder=False)
    assert np.abs(found - applied).max() < 1e-3 * np.abs(found).max()
    strong = tensors(merged)["blk.0.ffn_up.weight"]
    plain = weights("model.layers.0.mlp.up_proj.weight", (128, 64))
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_"
    product = 9 * weights(f"{name}B.weight", (128, RANK)) @ weights(f"{name}A.weight", (RANK, 64))
    assert np.allclose(strong, plain + 3 / (2 if rslora else RANK) * product, atol=1e-5)


def test_embedding_adapter(tmp_path: Path) -> None:
    """PEFT turns the matrices of an embedding, llama.cpp looks them up by token."""
    base(tmp_path / "tiny")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    prefix = "base_model.model.model.embed_tokens.lora_embedding_"
    stored = {
        f"{prefix}A": ("F32", 3 * weights("a", (RANK, 384))),
        f"{prefix}B": ("F32", 3 * weights("b", (64, RANK))),
    }
    write_safetensors(adapter / "adapter_model.safetensors", stored)
    out = tmp_path / "adapter.gguf"
    with out.open("wb") as file:
        convert_lora(adapter, tmp_path / "tiny", file)
    plain = converted(tmp_path / "tiny")
    applied, alone = with_adapter(plain, out), last_state(plain, PROMPT, encoder=False)
    merged = converted(tmp_path / "tiny", merge_adapters=[adapter])
    found = last_state(merged, PROMPT, encoder=False)
    assert np.abs(found - applied).max() < 1e-3 * np.abs(found).max()
    assert np.abs(found - alone).max() > 0.05 * np.abs(found).max()


def test_delta_is_added(tmp_path: Path) -> None:
    """Base plus delta, with the delta's larger vocabulary and its tokenizer."""
    shapes = base(tmp_path / "tiny")
    config = json.loads((tmp_path / "tiny/config.json").read_text()) | {"vocab_size": 386}
    grown = {name: [386, 64] if shape == [384, 64] else shape for name, shape in shapes.items()}
    write_repository(tmp_path / "delta", config, grown, tokenizer="sentencepiece", dtype="F16")
    found = tensors(converted(tmp_path / "tiny", deltas=[tmp_path / "delta"]))
    halves = weights("model.embed_tokens.weight", (386, 64)).astype(np.float16)
    wanted = halves.astype(np.float32)
    wanted[:384] += weights("model.embed_tokens.weight", (384, 64))
    assert np.array_equal(found["token_embd.weight"], wanted)
    assert len(found) == len(shapes)


def test_delta_of_another_model_is_refused(tmp_path: Path) -> None:
    """Names and shapes must be those of the base."""
    shapes = base(tmp_path / "tiny")
    config = json.loads((tmp_path / "tiny/config.json").read_text())
    options: Any = {"tokenizer": "sentencepiece"}  # Any: of write_repository
    lacking = dict(list(shapes.items())[:-1])
    write_repository(tmp_path / "lacks", config, lacking, **options)
    write_repository(tmp_path / "more", config, shapes | {"model.x": [1]}, **options)
    wider = shapes | {"model.layers.0.mlp.up_proj.weight": [129, 64]}
    write_repository(tmp_path / "wider", config, wider, **options)
    for name in ("lacks", "more", "wider"):
        with pytest.raises(DeltaMismatch):
            converted(tmp_path / "tiny", deltas=[tmp_path / name])


ADAPTER_ERRORS: list[tuple[Json, type[ConversionError]]] = [
    ({"peft_type": "IA3"}, BadConfig),
    ({"use_dora": True}, NotDequantizable),
    ({"r": "four"}, BadConfig),
    ({"alpha_pattern": {"q_proj": "three"}}, BadConfig),
    ({"alpha_pattern": {"q_proj(": 3}}, BadConfig),
]


@pytest.mark.parametrize(("config", "error"), ADAPTER_ERRORS)
def test_adapters_that_gguf_can_not_say(
    config: Json, error: type[ConversionError], tmp_path: Path
) -> None:
    """Refused with the reason instead of applied wrongly."""
    shapes = base(tmp_path / "tiny")
    adapter = write_adapter(tmp_path / "adapter", shapes, turned=False, **config)
    with pytest.raises(error), (tmp_path / "out").open("wb") as file:
        convert_lora(adapter, tmp_path / "tiny", file)


def test_damaged_adapters(tmp_path: Path) -> None:
    """Half a pair, a pickle, nothing at all, a cut file, another model."""
    shapes = base(tmp_path / "tiny")
    adapter = write_adapter(tmp_path / "adapter", shapes, turned=False)
    file = adapter / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(Truncated):
        converted(tmp_path / "tiny", merge_adapters=[adapter])
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
    write_safetensors(file, {name: ("F32", weights("a", (RANK, 64)))})
    with pytest.raises(MissingWeights, match="only one"):
        converted(tmp_path / "tiny", merge_adapters=[adapter])
    write_safetensors(file, {name.replace("up_proj", "side_proj"): ("F32", weights("a", (4, 64)))})
    with pytest.raises(ConversionError):
        converted(tmp_path / "tiny", merge_adapters=[adapter])
    file.unlink()
    with pytest.raises(MissingWeights):
        converted(tmp_path / "tiny", merge_adapters=[adapter])
    (adapter / "adapter_model.bin").touch()
    with pytest.raises(PickleRefused):
        converted(tmp_path / "tiny", merge_adapters=[adapter])


def test_adapters_in_other_places(tmp_path: Path) -> None:
    """Who takes one for another hears which instruction it belongs to."""
    adapter = write_adapter(tmp_path / "a", base(tmp_path / "tiny"), turned=False)
    with pytest.raises(BadConfig, match="name it as ADAPTER"):
        converted(adapter)
    with pytest.raises(MissingWeights, match="an ADAPTER"):
        converted(tmp_path / "tiny", deltas=[adapter])
    with pytest.raises(BadConfig, match="no LoRA"):
        converted(tmp_path / "tiny", merge_adapters=[tmp_path / "tiny"])
