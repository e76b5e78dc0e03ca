"""What a Modelfile says that this build has no use for: people should hear of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ..spec import TensorType
from .plan import Given, Plan, Wishes


def without_effect(given: Given, wishes: Wishes, planned: Plan, usual_text: str) -> list[str]:
    """A sentence for each instruction that changes nothing; `usual_text` is nobody's wish."""
    used = {source for step in planned.steps for source in step.inputs.values()}
    told = []
    if wishes.calibration not in (usual_text, *used):
        told.append(f"CALIBRATION has no effect: {_no_matrix(given, wishes)}")
    if wishes.imatrix and (wishes.imatrix not in used or _looks_at_none(wishes)):
        told.append(f"IMATRIX has no effect: {_type(wishes)} is made without one")
    return told


def unmatched(tensor_types: Iterable[TensorType], names: Iterable[str]) -> Iterator[str]:
    """The same for patterns that no tensor's name has."""
    known = list(names)
    for each in tensor_types:
        try:
            pattern = re.compile(each.pattern.lower())  # as the quantiser is told, which may refuse
        except re.error:
            continue
        if not any(pattern.search(name) for name in known):
            yield f"TENSOR_TYPE {each.pattern}={each.type} has no effect: no tensor has such a name"


def _no_matrix(given: Given, wishes: Wishes) -> str:
    if wishes.imatrix:
        return "IMATRIX names a matrix that is finished"
    if not wishes.use_imatrix:
        return "IMATRIX none computes no matrix"
    if not given.generates:
        return "for a model that only embeds no matrix is computed"
    return f"{_type(wishes)} is made without an importance matrix"


def _looks_at_none(wishes: Wishes) -> bool:
    wish = wishes.quantize
    others = wishes.tensor_types or (wish and (wish.output or wish.embedding))
    return wish is not None and not wish.profits_from_imatrix and not others


def _type(wishes: Wishes) -> str:
    return wishes.quantize.type if wishes.quantize else "the model"
