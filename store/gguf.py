"""The header of a GGUF file, read with bounds on everything, because strangers write it.

Layout (github.com/ggml-org/ggml, docs/gguf.md): magic, version, counts, key-value pairs, tensor
table, padding, tensor data. Numbers are little-endian.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from .ggml import FILE_TYPE_NAMES, TENSOR_TYPES
from .gguf_values import GgufInvalid, LongArray, Reader, Value, read_value

__all__ = ["GgufInvalid", "Header", "LongArray", "Tensor", "Value", "read_header"]

MAX_TENSORS = 1 << 17
MAX_PAIRS = 1 << 16
MAX_BLOCKS = 512
MAX_ALIGNMENT = 1 << 20
_MAX_KEY_BYTES = (1 << 16) - 1
_MAX_TENSOR_NAME_BYTES = 63
_MAX_DIMENSIONS = 4
_MAX_ITEMS = 1 << 62
_DEFAULT_ALIGNMENT = 32
_VERSIONS = (2, 3)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of the tensor table; `offset` counts from the start of the data."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int

    @property
    def items(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says about itself; every tensor lies inside the file."""

    version: int
    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset: int
    alignment: int
    file_bytes: int

    @property
    def architecture(self) -> str | None:
        return self._text("general.architecture")

    @property
    def parameter_count(self) -> int:
        """How many numbers the tensors hold."""
        return sum(tensor.items for tensor in self.tensors)

    @property
    def weights_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def file_type_name(self) -> str | None:
        """The quantisation's name, as in `Q4_K_M`; None when the file doesn't say."""
        number = self._number("general.file_type")
        return None if number is None else FILE_TYPE_NAMES.get(number)

    @property
    def chat_template(self) -> str | None:
        return self._text("tokenizer.chat_template")

    @property
    def context_length(self) -> int | None:
        """The context that the model was trained with."""
        return self.of_architecture("context_length")

    @property
    def embedding_length(self) -> int | None:
        return self.of_architecture("embedding_length")

    @property
    def block_count(self) -> int | None:
        return self.of_architecture("block_count")

    def of_architecture(self, key: str) -> int | None:
        """The whole number under `<architecture>.<key>`."""
        return self._number(f"{self.architecture}.{key}")

    def _text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def _number(self, key: str) -> int | None:
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_header(path: Path, *, arrays: bool | Container[str] = False) -> Header:
    """The header of the GGUF file at `path`; raises GgufInvalid that says what is wrong and where.

    Arrays of more than 1024 items come as LongArray, unless `arrays` asks for them, or for all.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise GgufInvalid(f"can't open {path.name}: {error.strerror}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise GgufInvalid(f"{path.name} is not a regular file")
        return _header(Reader(fd, status.st_size), arrays=arrays)
    finally:
        os.close(fd)


def _header(reader: Reader, *, arrays: bool | Container[str]) -> Header:
    version = _version(reader)
    tensor_count = reader.count("tensors", MAX_TENSORS)
    pair_count = reader.count("key-value pairs", MAX_PAIRS)
    metadata = _metadata(reader, pair_count, arrays=arrays)
    alignment = _alignment(metadata)
    tensors = _tensors(reader, tensor_count, alignment)
    data_offset = _padded(reader.position, alignment)
    _check_inside(tensors, data_offset, reader.file_bytes)
    _check_overlap(tensors)
    header = Header(version, metadata, tensors, data_offset, alignment, reader.file_bytes)
    _check_facts(header)
    return header


def _version(reader: Reader) -> int:
    if reader.take(4, "the magic") != b"GGUF":
        raise GgufInvalid("this is no GGUF file: it does not start with 'GGUF'")
    version = reader.unsigned32("the version")
    if version in _VERSIONS:
        return version
    if int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS:
        raise GgufInvalid("this GGUF file is big-endian, which is not supported")
    raise GgufInvalid(f"GGUF version {version} is not supported, only {_VERSIONS}")


def _metadata(reader: Reader, count: int, *, arrays: bool | Container[str]) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(count):
        key = reader.identifier("a key", _MAX_KEY_BYTES)
        if not key:
            raise reader.invalid("a key is empty")
        if key in metadata:
            raise reader.invalid(f"the key {key[:100]!r} comes twice")
        whole = arrays if isinstance(arrays, bool) else key in arrays
        metadata[key] = read_value(reader, key, arrays=whole)
    return metadata


def _alignment(metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        raise GgufInvalid(f"general.alignment is {value!r}, want a power of two up to 1 MiB")
    return value


def _tensors(reader: Reader, count: int, alignment: int) -> tuple[Tensor, ...]:
    tensors: dict[str, Tensor] = {}
    for _ in range(count):
        tensor = _tensor(reader)
        if tensor.name in tensors:
            raise reader.invalid(f"the tensor {tensor.name!r} comes twice")
        if tensor.offset % alignment:
            raise reader.invalid(f"the tensor {tensor.name!r} is not aligned to {alignment}")
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _tensor(reader: Reader) -> Tensor:
    name = reader.identifier("a tensor's name", _MAX_TENSOR_NAME_BYTES)
    if not name:
        raise reader.invalid("a tensor's name is empty")
    dimensions = reader.unsigned32(f"the dimensions of {name!r}")
    if dimensions > _MAX_DIMENSIONS:
        raise reader.invalid(f"the tensor {name!r} has {dimensions} dimensions, at most 4 can be")
    shape = tuple(reader.unsigned64(f"the shape of {name!r}") for _ in range(dimensions))
    if math.prod(shape) > _MAX_ITEMS or 0 in shape:
        raise reader.invalid(f"the tensor {name!r} has the impossible shape {shape}")
    number = reader.unsigned32(f"the type of {name!r}")
    offset = reader.unsigned64(f"the offset of {name!r}")
    type_name, size_bytes = _packed(reader, name, number, shape)
    return Tensor(name, type_name, shape, offset, size_bytes)


def _packed(reader: Reader, name: str, number: int, shape: tuple[int, ...]) -> tuple[str, int]:
    """The type's name and the tensor's size."""
    kind = TENSOR_TYPES.get(number)
    if kind is None:
        raise reader.invalid(f"the tensor {name!r} has the unknown type {number}")
    row = shape[0] if shape else 1
    if row % kind.block_items:
        raise reader.invalid(
            f"the tensor {name!r} has rows of {row}, {kind.name} packs {kind.block_items} at a time"
        )
    return kind.name, math.prod(shape) // kind.block_items * kind.block_bytes


def _padded(offset: int, alignment: int) -> int:
    return (offset + alignment - 1) // alignment * alignment


def _check_inside(tensors: tuple[Tensor, ...], data_offset: int, file_bytes: int) -> None:
    for tensor in tensors:
        end = data_offset + tensor.offset + tensor.size_bytes
        if end > file_bytes:
            raise GgufInvalid(
                f"the tensor {tensor.name!r} ends at byte {end}, the file at {file_bytes}: "
                "the file is cut short or damaged"
            )


def _check_overlap(tensors: tuple[Tensor, ...]) -> None:
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset < end:
            raise GgufInvalid(f"the tensor {tensor.name!r} overlaps the one before it")
        end = tensor.offset + tensor.size_bytes


def _check_facts(header: Header) -> None:
    """The facts that loaders use without looking have the right type and a sensible size."""
    if "general.architecture" in header.metadata and not header.architecture:
        raise GgufInvalid("general.architecture is not a text")
    if "tokenizer.chat_template" in header.metadata and header.chat_template is None:
        raise GgufInvalid("tokenizer.chat_template is not a text")
    for key in ("context_length", "embedding_length", "block_count"):
        full = f"{header.architecture}.{key}"
        number = header.of_architecture(key)
        if full in header.metadata and (number is None or not 0 <= number < 1 << 31):
            raise GgufInvalid(f"{full} is not a sensible number")
    if (blocks := header.block_count) is not None and blocks > MAX_BLOCKS:
        raise GgufInvalid(f"{header.architecture}.block_count is {blocks}, at most {MAX_BLOCKS}")
