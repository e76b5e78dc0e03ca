"""The tensors of a quantised checkpoint while its weights are put together from them."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import MissingWeights, NotDequantizable
from .float8 import decode_e8m0
from .shards import Stored
from .tensor import Array, Load, Tensor


class Parts:
    """What is taken belongs to a weight; the rest stays what it is."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self._order = list(stored)
        self._left = dict(stored)
        self._weights: dict[str, Tensor] = {}

    def bases(self, suffix: str) -> list[str]:
        """The names of the tensors that end so, without the end."""
        return [name.removesuffix(suffix) for name in self._left if name.endswith(suffix)]

    def take(self, name: str) -> Stored:
        if name not in self._left:
            raise MissingWeights(f"the repository lacks {name!r}, which its quantisation needs")
        return self._left.pop(name)

    def take_matrix(self, name: str) -> Stored:
        """The same of what must have rows and columns."""
        found = self.take(name)
        if len(found.shape) != 2 or 0 in found.shape:
            raise NotDequantizable(f"{name} has the shape {found.shape}, want rows and columns")
        return found

    def take_if_there(self, name: str) -> Stored | None:
        return self._left.pop(name, None)

    def drop(self, *suffixes: str) -> None:
        """Forgets the tensors whose names end so."""
        for name in [name for name in self._left if name.endswith(suffixes)]:
            del self._left[name]

    def replace(self, name: str, weight: Tensor) -> None:
        """`weight` raises NotDequantizable when it is read and its parts don't fit together."""
        parts = tuple(_fitting(name, load) for load in weight.parts)
        self._weights[name] = Tensor(weight.shape, weight.kind, parts)

    def tensors(self) -> dict[str, Tensor]:
        """All that is left in its old order, new names last."""
        found: dict[str, Tensor] = {}
        for name in self._order:
            if name in self._weights:
                found[name] = self._weights[name]
            elif name in self._left:
                found[name] = self._left[name].tensor()
        return found | self._weights


def _fitting(name: str, load: Load) -> Load:
    def loaded() -> Array:
        try:
            return load()
        except (ValueError, IndexError) as error:  # numpy's, of shapes and of codes beyond a table
            raise NotDequantizable(f"the parts of {name} don't fit together: {error}") from error

    return loaded


def scales_of(stored: Stored) -> Array:
    """The numbers of a scale; bytes are exponents of two."""
    return decode_e8m0(stored.raw()) if stored.dtype == "U8" else stored.tensor().load_f32()
