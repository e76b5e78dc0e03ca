"""Typed values of a GGUF header, and the bounded reader that they come from."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from .errors import InvalidRequest

SHORT_ARRAY_ITEMS = 1024
MAX_ARRAY_ITEMS = 1 << 24
MAX_STRING_BYTES = 1 << 24
MAX_HEADER_BYTES = 1 << 29
_BUFFER_BYTES = 1 << 18

_SCALARS = {
    0: ("UINT8", struct.Struct("<B")),
    1: ("INT8", struct.Struct("<b")),
    2: ("UINT16", struct.Struct("<H")),
    3: ("INT16", struct.Struct("<h")),
    4: ("UINT32", struct.Struct("<I")),
    5: ("INT32", struct.Struct("<i")),
    6: ("FLOAT32", struct.Struct("<f")),
    7: ("BOOL", struct.Struct("<B")),
    10: ("UINT64", struct.Struct("<Q")),
    11: ("INT64", struct.Struct("<q")),
    12: ("FLOAT64", struct.Struct("<d")),
}
_BOOL = 7
_STRING = 8
_ARRAY = 9
_UNSIGNED32 = struct.Struct("<I")
_UNSIGNED64 = struct.Struct("<Q")


class GgufInvalid(InvalidRequest):
    """A file that is no sound GGUF; says what is wrong and where."""

    code = "gguf_invalid"


@dataclass(frozen=True, slots=True)
class LongArray:
    """An array too long to keep: the type of its items and how many there are."""

    type: str
    length: int


Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...] | LongArray


class Reader:
    """Reads forward through an open file, never past its end and never without a bound."""

    def __init__(self, fd: int, file_bytes: int) -> None:
        self._fd = fd
        self.file_bytes = file_bytes
        self._buffer = b""
        self._start = 0  # where the buffer lies in the file
        self._next = 0  # the next byte, in the buffer

    @property
    def position(self) -> int:
        return self._start + self._next

    def invalid(self, what: str) -> GgufInvalid:
        """An error that names the place."""
        return GgufInvalid(f"{what} (near byte {self.position} of {self.file_bytes})")

    def take(self, size_bytes: int, what: str) -> bytes:
        """The next bytes; GgufInvalid when the file ends before."""
        end = self._next + size_bytes
        if end > len(self._buffer):
            self._fill(size_bytes, what)
            end = self._next + size_bytes
        data = self._buffer[self._next : end]
        self._next = end
        return data

    def skip(self, size_bytes: int, what: str) -> None:
        """Moves on, without reading what lies between."""
        self._check(size_bytes, what)
        self._start, self._buffer, self._next = self.position + size_bytes, b"", 0

    def skip_strings(self, count: int, what: str) -> None:
        """Moves past strings; a plain loop, because a vocabulary has 100,000s of them."""
        unpack, buffer, place = _UNSIGNED64.unpack_from, self._buffer, self._next
        last = len(buffer) - 8
        for _ in range(count):
            if place <= last:
                end = place + 8 + unpack(buffer, place)[0]
                if end <= last + 8:
                    place = end
                    continue
            self._next = place
            self.string_bytes(what)
            buffer, place, last = self._buffer, self._next, len(self._buffer) - 8
        self._next = place

    def strings(self, count: int, what: str) -> list[bytes]:
        """The next strings; as plain as `skip_strings`."""
        unpack, buffer, place = _UNSIGNED64.unpack_from, self._buffer, self._next
        last, found = len(buffer) - 8, list[bytes]()
        for _ in range(count):
            if place <= last:
                end = place + 8 + unpack(buffer, place)[0]
                if end <= last + 8:
                    found.append(buffer[place + 8 : end])
                    place = end
                    continue
            self._next = place
            found.append(self.string_bytes(what))
            buffer, place, last = self._buffer, self._next, len(self._buffer) - 8
        self._next = place
        return found

    def unsigned32(self, what: str) -> int:
        number: int = _UNSIGNED32.unpack(self.take(4, what))[0]
        return number

    def unsigned64(self, what: str) -> int:
        number: int = _UNSIGNED64.unpack(self.take(8, what))[0]
        return number

    def count(self, what: str, limit: int) -> int:
        """A 64-bit count that must be sensible before anything is allocated for it."""
        count = self.unsigned64(f"the number of {what}")
        if count > limit:
            raise self.invalid(f"the file claims {count} {what}, at most {limit} can be")
        return count

    def string_bytes(self, what: str, limit: int = MAX_STRING_BYTES) -> bytes:
        length = self.unsigned64(f"the length of {what}")
        if length > limit:
            raise self.invalid(f"{what} claims {length} bytes, at most {limit} can be")
        return self.take(length, what)

    def identifier(self, what: str, limit: int) -> str:
        """A key or name: bounded, and valid UTF-8."""
        data = self.string_bytes(what, limit)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self.invalid(f"{what} is not UTF-8") from error

    def _check(self, size_bytes: int, what: str) -> None:
        end = self.position + size_bytes
        if end > self.file_bytes:
            raise self.invalid(f"the file is cut short inside {what}")
        if end > MAX_HEADER_BYTES:
            raise self.invalid(f"the header is longer than {MAX_HEADER_BYTES} bytes")

    def _fill(self, size_bytes: int, what: str) -> None:
        self._check(size_bytes, what)
        self._start, self._next = self.position, 0
        wanted = min(max(size_bytes, _BUFFER_BYTES), self.file_bytes - self._start)
        self._buffer = os.pread(self._fd, wanted, self._start)
        if len(self._buffer) < size_bytes:  # it shrank after it was opened
            raise self.invalid(f"the file is cut short inside {what}")


def read_value(reader: Reader, key: str, *, arrays: bool) -> Value:
    """The value of `key`, with its type in front of it."""
    kind = reader.unsigned32(f"the type of {key!r}")
    return _array(reader, key, all_items=arrays) if kind == _ARRAY else _scalar(reader, key, kind)


def _scalar(reader: Reader, key: str, kind: int) -> Scalar:
    if kind == _STRING:
        return _text(reader, key)
    if kind not in _SCALARS:
        raise reader.invalid(f"{key!r} has the unknown type {kind}")
    layout = _SCALARS[kind][1]
    number: int | float = layout.unpack(reader.take(layout.size, repr(key)))[0]
    return _boolean(reader, key, number) if kind == _BOOL else number


def _text(reader: Reader, key: str) -> str:
    """Tokens may be any bytes; what is not UTF-8 shows as a replacement character."""
    return reader.string_bytes(repr(key)).decode(errors="replace")


def _boolean(reader: Reader, key: str, number: float) -> bool:
    if number not in (0, 1):
        raise reader.invalid(f"{key!r} is a truth value of {number}")
    return number == 1


def _array(reader: Reader, key: str, *, all_items: bool) -> Value:
    kind = reader.unsigned32(f"the item type of {key!r}")
    if kind == _ARRAY:
        raise reader.invalid(f"{key!r} is an array of arrays")
    if kind != _STRING and kind not in _SCALARS:
        raise reader.invalid(f"{key!r} has items of the unknown type {kind}")
    length = reader.count(f"items of {key!r}", MAX_ARRAY_ITEMS)
    if length <= SHORT_ARRAY_ITEMS or all_items:
        return _items(reader, key, kind, length)
    if kind == _STRING:
        reader.skip_strings(length, repr(key))
        return LongArray("STRING", length)
    type_name, layout = _SCALARS[kind]
    reader.skip(length * layout.size, repr(key))
    return LongArray(type_name, length)


def _items(reader: Reader, key: str, kind: int, length: int) -> tuple[Scalar, ...]:
    if kind == _STRING:
        texts = reader.strings(length, repr(key))
        return tuple(text.decode(errors="replace") for text in texts)
    layout = _SCALARS[kind][1]
    data = reader.take(length * layout.size, repr(key))
    numbers = (number for (number,) in layout.iter_unpack(data))
    if kind == _BOOL:
        return tuple(_boolean(reader, key, number) for number in numbers)
    return tuple(numbers)
