"""What the families of models have in common when they become GGUF.

A family turns a repository's tensors into GGUF's (`adapt`, one by one), its config.json into pairs
(`write_parameters`) and its tokenizer files into a vocabulary (`vocabulary`). The base class does
what most of them do; a family's module holds only what it does differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, TensorNameMap, get_tensor_name_map

from . import bpe
from .config import Config, with_text_config
from .errors import BadConfig, BadTensor
from .experts import Experts
from .pairs import Pairs
from .parameters import write_common
from .rope import Rope
from .source import Repository
from .stand_ins import StandIns
from .tensor import Tensor
from .vocabulary import Vocabulary

Named: TypeAlias = tuple[str, Tensor]
Names: TypeAlias = tuple[str, ...]
Defaults: TypeAlias = Mapping[str, Any]  # Any: JSON

MAX_BLOCKS = 512
_MAX_HEAD = 1 << 16
_DROPPED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")
_OTHER_MODALITIES = (
    "mlp",
    "vit.",
    "vpm.",
    "siglip2.",
    "conformer.",
    "merger.",
    "resampler.",
)
_OTHER_MODALITY_PARTS = (
    "visual.",
    "vision.",
    "audio.",
    "talker.",
    "vision_",
    "audio_",
    "projector.",
    "pre_mm_projector_norm",
    "image_newline",
    "view_seperator",
    "patch_embed",
    "patch_merger.",
    "model.connector.",
)


class Family:
    """One model of the family, on its way from a repository to GGUF."""

    architectures: ClassVar[Names]  # the names in config.json
    arch: ClassVar[MODEL_ARCH]
    defaults: ClassVar[Defaults] = {}  # what transformers assumes when config.json is mute
    theta: ClassVar[float | None] = 10000.0  # the base of the rotations, likewise
    expert_weights: ClassVar[tuple[str, ...]] = ()  # in the order of their stacks
    stand_ins: ClassVar[StandIns] = StandIns()

    def __init__(self, repository: Repository) -> None:
        self.path: Path = repository.path
        self.hf_architecture = repository.architecture
        self.config = Config(dict(self.defaults) | _told(with_text_config(repository.config)))
        self.complete()
        self.blocks = self.block_count()
        if self.blocks > MAX_BLOCKS:
            raise BadConfig(f"config.json: {self.blocks} layers are more than {MAX_BLOCKS}")
        self.rope = Rope(self.config)
        self.names: TensorNameMap = get_tensor_name_map(self.arch, self.blocks)
        self.experts = Experts(self.expert_weights)

    # What a family may do differently

    def complete(self) -> None:
        """Fills in facts that follow from others."""
        if self.theta is not None and not self.config.values.get("rope_parameters"):
            self.config.values.setdefault("rope_theta", self.theta)

    @property
    def uniform(self) -> bool:
        """Whether every block has the same tensors."""
        return True

    def block_count(self) -> int:
        return self.config.count("num_hidden_layers", "n_layers", "n_layer", "num_layers")

    def rename(self, name: str) -> str | None:
        """The name that `adapt` shall see; None drops the tensor."""
        return name

    def adapt(self, name: str, tensor: Tensor, block: int | None) -> Iterable[Named]:
        """What one tensor of the repository becomes, with GGUF names."""
        yield self.mapped(name), tensor

    def extra_tensors(self) -> Iterator[Named]:
        """Tensors that the repository does not have."""
        yield from ()

    def write_first(self, pairs: Pairs) -> None:
        """What upstream says while it makes the tensors, before anything else."""

    def write_parameters(self, pairs: Pairs, file_type: int) -> None:
        write_common(pairs, self.config, self.rope, self.blocks)
        pairs.u32("general.file_type", file_type)

    def vocabulary(self) -> Vocabulary:
        return bpe.byte_level(bpe.read_tokenizer(self.path), self.config)

    def write_vocabulary(self, pairs: Pairs) -> None:
        self.vocabulary().write(pairs, self.path)

    # What they all use

    def mapped(self, name: str) -> str:
        """The GGUF name of the repository's `name`."""
        new = self.names.get_name(name, try_suffixes=(".weight", ".bias"))
        if new is None:
            raise BadTensor(f"no model of {self.hf_architecture} has a tensor {name!r}")
        return new

    def tensors(self, stored: Mapping[str, Tensor]) -> Iterator[Named]:
        """All of the model's tensors in the order of the file."""
        made: dict[str, Tensor] = {}
        for name, tensor in self._own_tensors(stored):
            made[name] = tensor
            yield name, tensor
        self.experts.check_complete()
        yield from self.stand_ins.missing(made, self.blocks, tied=not self.untied)

    def _own_tensors(self, stored: Mapping[str, Tensor]) -> Iterator[Named]:
        yield from self.extra_tensors()
        for name, tensor in stored.items():
            if not name.endswith(_DROPPED):
                yield from self.adapt(name, tensor, _block_of(name))

    def kept_name(self, name: str) -> str | None:
        """The name after renaming; None for what belongs to other modalities."""
        if name.startswith(_OTHER_MODALITIES) or any(p in name for p in _OTHER_MODALITY_PARTS):
            return None
        if name.endswith("e_score_correction_bias"):
            name = name.replace("e_score_correction_bias", "e_score_correction.bias")
        return self.rename(name.replace("language_model.", ""))

    @classmethod
    def name(cls) -> str:
        """What GGUF calls the architecture."""
        return MODEL_ARCH_NAMES[cls.arch]

    @property
    def untied(self) -> bool:
        """Whether config.json says itself that the output is not the embedding again."""
        return self.config.find("tie_word_embeddings") is False

    @property
    def heads(self) -> int:
        return self.config.count("num_attention_heads", "n_head", "n_heads")

    @property
    def hidden(self) -> int:
        return self.config.count("hidden_size", "n_embd", "dim")

    @property
    def head_dim(self) -> int:
        length = self.config.whole_or_none("head_dim") or self.hidden // self.heads
        if not 0 < length <= _MAX_HEAD:
            raise BadConfig(f"config.json: heads of {length} numbers are out of all proportion")
        return length


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _block_of(name: str) -> int | None:
    """The first number in the name."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)
