"""What must be true of a plan before the first byte is written."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Sequence

from .errors import BadTensor, MissingWeights
from .family import Family
from .output import Entry

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


def check_plan(family: Family, entries: Sequence[Entry]) -> None:
    """Raises MissingWeights or BadTensor if blocks lack tensors or their shapes disagree."""
    shapes = {entry.name: entry.tensor.shape for entry in entries}
    _check_embedding(family, shapes.get("token_embd.weight"))
    _check_output(family, shapes)
    blocks: dict[int, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name, shape in shapes.items():
        if match := _BLOCK.fullmatch(name):
            blocks[int(match[1])][match[2]] = shape
    for number in range(family.blocks):
        if number not in blocks:
            raise MissingWeights(f"the weights of layer {number} of {family.blocks} are missing")
    if family.uniform:
        _check_uniform(blocks)


def _check_embedding(family: Family, shape: tuple[int, ...] | None) -> None:
    if shape is None:
        raise MissingWeights("the repository has no token embedding")
    size = family.config.vocabulary_size()
    if len(shape) != 2 or shape[1] != family.hidden:
        raise BadTensor(f"the token embedding has the shape {shape}, want rows of {family.hidden}")
    if size is not None and shape[0] < size:
        raise BadTensor(
            f"config.json has a vocabulary of {size}, the token embedding only {shape[0]} rows"
        )


def _check_output(family: Family, shapes: Container[str]) -> None:
    generates = family.hf_architecture.endswith(("ForCausalLM", "LMHeadModel"))
    drops = family.kept_name("lm_head.weight") is None
    if generates and not drops and family.untied and "output.weight" not in shapes:
        raise MissingWeights(
            "the output's weights are missing (lm_head.weight), and config.json says that they are "
            "not the embedding again (tie_word_embeddings)"
        )


def _check_uniform(blocks: dict[int, dict[str, tuple[int, ...]]]) -> None:
    expected: dict[str, tuple[int, ...]] = {}
    for tensors in blocks.values():
        for name, shape in tensors.items():
            expected.setdefault(name, shape)
    for number, tensors in sorted(blocks.items()):
        for name, shape in expected.items():
            if name not in tensors:
                raise MissingWeights(f"layer {number} lacks {name!r}, which other layers have")
            if tensors[name] != shape:
                raise BadTensor(
                    f"{name!r} of layer {number} has the shape {tensors[name]}, "
                    f"that of other layers {shape}"
                )
