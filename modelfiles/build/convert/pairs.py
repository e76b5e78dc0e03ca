"""The key-value pairs of a GGUF file, packed as its format wants them.

Keys that start with a dot belong to the architecture: `.block_count` becomes `llama.block_count`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import chain
from typing import Any

import numpy as np

from .errors import BadConfig

Text = str | bytes


class Type(IntEnum):
    """The format's numbers of the types that conversions write."""

    U8 = 0
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9


_SCALARS = {Type.U32: "<I", Type.I32: "<i", Type.F32: "<f", Type.BOOL: "<?"}
_NUMPY = {Type.U8: "u1", Type.U32: "<u4", Type.I32: "<i4", Type.F32: "<f4", Type.BOOL: "?"}


class Pairs:
    """Pairs in the order of their first writing; a later value replaces an earlier one."""

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self._packed: dict[str, bytes] = {}
        self.text("general.architecture", architecture)

    def __contains__(self, key: str) -> bool:
        return self._full(key) in self._packed

    def __len__(self) -> int:
        return len(self._packed)

    def u32(self, key: str, value: int) -> None:
        self._scalar(key, Type.U32, value)

    def i32(self, key: str, value: int) -> None:
        self._scalar(key, Type.I32, value)

    def f32(self, key: str, value: float) -> None:
        self._scalar(key, Type.F32, value)

    def flag(self, key: str, value: bool) -> None:
        self._scalar(key, Type.BOOL, bool(value))

    def text(self, key: str, value: Text) -> None:
        """An empty text is left away."""
        if value:
            self._packed[self._full(key)] = struct.pack("<I", Type.STRING) + _string(value)

    def texts(self, key: str, values: Iterable[Text]) -> None:
        try:
            texts = [each.encode() if isinstance(each, str) else each for each in values]
        except UnicodeEncodeError as error:
            raise BadConfig(f"a text of {key} is no Unicode: {error.object!r:.80}") from error
        sizes = map(struct.Struct("<Q").pack, map(len, texts))
        items = chain.from_iterable(zip(sizes, texts, strict=True))
        self._array(key, Type.STRING, len(texts), b"".join(items))

    def numbers(self, key: str, kind: Type, values: Sequence[Any]) -> None:
        array = np.asarray(values, dtype=_NUMPY[kind])
        self._array(key, kind, len(array), array.tobytes())

    def packed(self) -> bytes:
        """All pairs as they stand in the file."""
        return b"".join(_string(key) + value for key, value in self._packed.items())

    def _full(self, key: str) -> str:
        return f"{self.architecture}{key}" if key.startswith(".") else key

    def _scalar(self, key: str, kind: Type, value: float) -> None:
        try:
            packed = struct.pack(_SCALARS[kind], value)
        except (struct.error, OverflowError) as error:
            raise BadConfig(f"{self._full(key)} would be {value}, which does not fit") from error
        self._packed[self._full(key)] = struct.pack("<I", kind) + packed

    def _array(self, key: str, kind: Type, length: int, items: bytes) -> None:
        """An empty array is left away."""
        if length:
            head = struct.pack("<IIQ", Type.ARRAY, kind, length)
            self._packed[self._full(key)] = head + items


def _string(value: Text) -> bytes:
    try:
        data = value.encode() if isinstance(value, str) else value
    except UnicodeEncodeError as error:
        raise BadConfig(f"{error.object!r:.80} is no Unicode") from error
    return struct.pack("<Q", len(data)) + data
