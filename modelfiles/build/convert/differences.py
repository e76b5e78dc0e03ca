"""What a repository's model does that llama.cpp can't: its GGUF calculates otherwise there.

Upstream's converter says nothing of it and writes the same file, so that the file is right; people
should only know what they get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .config import Config, read_json, with_text_config
from .errors import ConversionError
from .source import architecture_of

_WINDOWED = ("Mistral", "Mixtral", "Phi3", "Starcoder2")  # with a window where config.json has one
_QWEN = ("Qwen2", "Qwen2Moe", "Qwen3", "Qwen3Moe")  # where it says that it is used, too
_LLAMA3_ROPE = ("Llama", "Mistral", "Mixtral", "SmolLM3")
_PLAIN_ROPE = ("Gemma", "Gemma2")  # always 10000, nothing scaled
_PLAIN_THETA = 10000.0
_NORMALISES = {"Qwen2Moe": False, "Qwen3Moe": True}  # the chosen experts' weights
_LAYERS_OF_27B = {"Gemma2": 46, "Gemma3": 62}
_SILU = ("silu", "swish")
_OTHERS = ("Llama", "Mistral", "Mixtral", "Olmo2", "Granite", "SmolLM3", "StableLm", *_QWEN)


def differences(config_json: Path) -> list[str]:
    """One sentence each; nothing where the file says too little."""
    try:
        said = read_json(config_json)
        config, model = Config(with_text_config(said)), architecture_of(said).partition("For")[0]
        return [sentence for look in _LOOKS for sentence in look(model, config)]
    except ConversionError:
        return []  # the conversion says what is wrong


def _window(model: str, config: Config) -> Iterator[str]:
    window = config.whole_or_none("sliding_window")
    context = config.whole_or_none("max_position_embeddings")
    used = model in _WINDOWED or (model in _QWEN and config.flag("use_sliding_window"))
    if used and window and (context is None or window < context):
        yield (
            f"it attends to the last {window} tokens only (sliding_window), llama.cpp to all: "
            "longer texts differ"
        )


def _rope(model: str, config: Config) -> Iterator[str]:
    said = config.table("rope_parameters") or config.table("rope_scaling")
    rope = Config(said, "config.json: rope")
    kind = (rope.text("rope_type") or rope.text("type")).lower()
    theta = rope.number_or_none("rope_theta") or config.number_or_none("rope_theta")
    if kind == "llama3" and model not in _LLAMA3_ROPE:
        yield "its rotations are scaled as Llama 3's (rope_type), which llama.cpp does not do here"
    if kind == "dynamic":
        yield "its rotations change with long texts (rope_type dynamic), llama.cpp's stay the same"
    if kind == "yarn" and rope.number_or_none("attention_factor") is not None:
        yield "its rotations say an attention_factor of their own, which llama.cpp has otherwise"
    if model in _PLAIN_ROPE and (kind not in ("", "default") or theta not in (None, _PLAIN_THETA)):
        yield "its rotations are other ones than 10000's, which llama.cpp does not know here"


def _experts(model: str, config: Config) -> Iterator[str]:
    usual = _NORMALISES.get(model)
    said = config.flag("norm_topk_prob")
    if usual is not None and said != usual:
        yield (
            f"norm_topk_prob is {str(said).lower()}, llama.cpp weighs these experts as if it were "
            f"{str(usual).lower()}"
        )


def _attention_scale(model: str, config: Config) -> Iterator[str]:
    if model not in _LAYERS_OF_27B:
        return
    scale = config.number_or_none("query_pre_attn_scalar") or 256
    usual: float = config.whole_or_none("head_dim") or 256
    if config.whole_or_none("num_hidden_layers") == _LAYERS_OF_27B[model]:
        usual = config.count("hidden_size") // config.count("num_attention_heads")
    if scale != usual:
        yield f"query_pre_attn_scalar is {scale:g}, llama.cpp takes {usual:g} here"


def _activation(model: str, config: Config) -> Iterator[str]:
    activation = config.text("hidden_act")
    if model in _OTHERS and activation and activation not in _SILU:
        yield f"its activation is {activation}, llama.cpp's is silu here"


_LOOKS: tuple[Callable[[str, Config], Iterator[str]], ...] = (
    _window,
    _rope,
    _experts,
    _attention_scale,
    _activation,
)
