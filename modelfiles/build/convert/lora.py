"""LoRA adapters as PEFT stores them, and the same as a GGUF that is applied when a model loads."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .config import Config, read_json
from .counts import Counts
from .errors import BadConfig, BadTensor, MissingWeights, NotDequantizable, PickleRefused
from .families import family_of
from .family import Family
from .general import write_general
from .output import Entry, Output, Progress, write_gguf
from .pairs import Pairs
from .shards import read_shard
from .source import open_repository
from .tensor import Kind, Tensor

_QUANT_VERSION = 2
_NAME = re.compile(
    r"(?:base_model\.model\.)?(.+?)\.lora_(?:embedding_)?([AB])(?:\.default)?(?:\.weight)?"
)
_WHOLE = re.compile(
    r"(?:base_model\.model\.)?(.+?)(?:\.modules_to_save(?:\.default)?)?\.(weight|bias)"
)
_REFUSED = {
    "use_dora": "DoRA",
    "layer_replication": "layer replication",
    "trainable_token_indices": "trained single tokens",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two thin matrices whose product, outputs by inputs, is added to a weight."""

    a: Tensor  # rank by inputs
    b: Tensor  # outputs by rank
    is_embedding: bool = False

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def inputs(self) -> int:
        return self.a.shape[1]

    @property
    def outputs(self) -> int:
        return self.b.shape[0]


@dataclass(frozen=True, slots=True)
class Adapter:
    """What it adds to which weight, and weights that it replaces as a whole."""

    config: Config
    pairs: dict[str, Pair]
    whole: dict[str, Tensor]

    @property
    def fan_in_fan_out(self) -> bool:
        """The adapted layers have their matrices the other way round."""
        return self.config.flag("fan_in_fan_out")

    @property
    def alpha(self) -> float:
        """By what to multiply, times the rank."""
        alpha = self.config.number_or_none("lora_alpha")
        rank = self.config.count("r")
        alpha = float(rank) if alpha is None else alpha
        return alpha * math.sqrt(rank) if self.config.flag("use_rslora") else alpha

    def scale_of(self, name: str, rank: int) -> float:
        """By what the product for the weight `name` is multiplied."""
        alpha = self._own_alpha(name.removesuffix(".weight"))
        if alpha is None:
            alpha = self.config.number_or_none("lora_alpha") or float(rank)
        return alpha / (math.sqrt(rank) if self.config.flag("use_rslora") else rank)

    def _own_alpha(self, layer: str) -> float | None:
        """That of the first pattern that fits, as PEFT looks for it."""
        patterns = self.config.within("alpha_pattern")
        for pattern in patterns.values:
            try:
                fits = re.fullmatch(rf"(.*\.)?({pattern})", layer)
            except re.error as error:
                raise BadConfig(
                    f"adapter_config.json: alpha_pattern {pattern!r}: {error}"
                ) from error
            if fits:
                return patterns.number(pattern)
        return None


def read_adapter(path: Path) -> Adapter:
    """The adapter in the directory `path`."""
    if not (path / "adapter_config.json").is_file():
        raise BadConfig("the adapter has no adapter_config.json, so it is no LoRA of PEFT's")
    config = Config(read_json(path / "adapter_config.json"), "adapter_config.json")
    if config.text("peft_type") not in ("", "LORA"):
        raise BadConfig(f"the adapter is {config.text('peft_type')}, only LoRA can be applied")
    for name, what in _REFUSED.items():
        if config.find(name):
            raise NotDequantizable(f"the adapter uses {what}, which a GGUF adapter can't say")
    file = path / "adapter_model.safetensors"
    if not file.is_file():
        if (path / "adapter_model.bin").is_file():
            raise PickleRefused("adapter_model.bin")
        raise MissingWeights("the adapter has no adapter_model.safetensors")
    halves: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    embeddings: set[str] = set()
    for stored in read_shard(file):
        if match := _NAME.fullmatch(stored.name):
            halves.setdefault(f"{match[1]}.weight", {})[match[2]] = stored.tensor()
            if ".lora_embedding_" in stored.name:
                embeddings.add(f"{match[1]}.weight")
        elif ".base_layer." not in stored.name and (match := _WHOLE.fullmatch(stored.name)):
            whole[f"{match[1]}.{match[2]}"] = stored.tensor()
    pairs = {name: _pair(name, found, name in embeddings) for name, found in halves.items()}
    if not pairs:
        raise MissingWeights("the adapter has no LoRA matrices")
    return Adapter(config, pairs, whole)


def _pair(name: str, found: dict[str, Tensor], is_embedding: bool) -> Pair:
    if set(found) != {"A", "B"}:
        raise MissingWeights(f"the adapter has only one of the two matrices for {name!r}")
    a, b = found["A"], found["B"]
    if is_embedding:  # PEFT has both the other way round: rank by tokens, width by rank
        a, b = b.transposed(), a.transposed()
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        raise BadTensor(f"the adapter's matrices for {name!r} have the shapes {a.shape}, {b.shape}")
    return Pair(a, b, is_embedding)


def convert_lora(
    source: Path, base: Path, out: Output, *, name: str = "", on_progress: Progress | None = None
) -> int:
    """Writes the PEFT adapter `source` for the model in `base` as GGUF, gives its size in bytes.

    Of `base` only config.json is needed.
    """
    adapter = read_adapter(source)
    repository = open_repository(base)
    family = family_of(repository.architecture)(repository)
    entries = list(_entries(family, adapter))
    pairs = Pairs(family.name())
    pairs.text("general.type", "adapter")
    pairs.text("adapter.type", "lora")
    write_general(pairs, source, name, Counts(0))
    pairs.f32("adapter.lora.alpha", adapter.alpha)
    pairs.u32("general.quantization_version", _QUANT_VERSION)
    return write_gguf(out, pairs, entries, on_progress)


def _entries(family: Family, adapter: Adapter) -> Iterator[Entry]:
    if adapter.whole:
        raise NotDequantizable(
            f"the adapter replaces {min(adapter.whole)!r} as a whole, which a GGUF adapter can't "
            "say; merge it into the weights"
        )
    for name, pair in sorted(adapter.pairs.items()):
        kept = family.kept_name(name)
        if kept is None or family.experts.matches(kept):
            raise BadTensor(f"an adapter for {name!r} can't be applied to this model")
        yield from _converted(family, kept, _as_strong(adapter, name, pair))


def _as_strong(adapter: Adapter, name: str, pair: Pair) -> Pair:
    """As a GGUF adapter says it: the same alpha for all, by the rank of each pair."""
    factor = np.float32(adapter.scale_of(name, pair.rank) * pair.rank / adapter.alpha)
    if factor == 1:
        return pair
    return replace(pair, b=pair.b.calculated(lambda numbers: numbers * factor))


def _converted(family: Family, name: str, pair: Pair) -> Iterator[Entry]:
    """Families change the order of rows only, so that the second matrix is all that changes."""
    if pair.is_embedding:  # looked up by token, not multiplied
        new = family.mapped(name)
        yield Entry(f"{new}.lora_a", pair.b, Kind.F32)
        yield Entry(f"{new}.lora_b", pair.a.transposed(), Kind.F32)
        return
    block = next((int(part) for part in name.split(".") if part.isdecimal()), None)
    found = list(family.adapt(name, pair.b, block))
    if len(found) != 1 or found[0][1].items != pair.b.items:
        raise BadTensor(f"an adapter for {name!r} can't be applied to this model; merge it")
    new, b = found[0]
    if b.shape != pair.b.shape:
        b = pair.b  # the whole matrix was turned, which the adapter need not be
    yield Entry(f"{new}.lora_a", pair.a, Kind.F32)
    yield Entry(f"{new}.lora_b", b, Kind.F32)
