from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qm.store.ggml import FILE_TYPE_NAMES, TENSOR_TYPES
from qm.store.gguf import GgufInvalid, Header, LongArray, read_header

U8, I8, U32, I32, F32, BOOL, STRING, ARRAY, U64 = 0, 1, 4, 5, 6, 7, 8, 9, 10


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def u32(key: str, value: int) -> bytes:
    return pair(key, U32, struct.pack("<I", value))


def tensor(
    name: str | bytes, shape: tuple[int, ...], *, kind: int = 0, offset: int = 0, dims: int = -1
) -> bytes:
    count = len(shape) if dims < 0 else dims
    return (
        text(name)
        + struct.pack("<I", count)
        + struct.pack(f"<{len(shape)}Q", *shape)
        + struct.pack("<IQ", kind, offset)
    )


ARCHITECTURE = pair("general.architecture", STRING, text("llama"))


def build(
    pairs: tuple[bytes, ...] = (ARCHITECTURE,),
    tensors: tuple[bytes, ...] = (),
    *,
    data: int = 0,
    magic: bytes = b"GGUF",
    version: int = 3,
    tensor_count: int | None = None,
    pair_count: int | None = None,
) -> bytes:
    """A GGUF file, sound unless an argument spoils it."""
    head = magic + struct.pack(
        "<IQQ",
        version,
        len(tensors) if tensor_count is None else tensor_count,
        len(pairs) if pair_count is None else pair_count,
    )
    body = head + b"".join(pairs) + b"".join(tensors)
    return body + bytes(-len(body) % 32) + bytes(data)


Read = Callable[..., Header]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads the header of a file with the given bytes."""

    def read_bytes(data: bytes, *, arrays: bool = False) -> Header:
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        return read_header(path, arrays=arrays)

    return read_bytes


def test_a_sound_file_is_read(read: Read) -> None:
    """Metadata with its types, and tensors with their place and size."""
    header = read(
        build(
            (
                ARCHITECTURE,
                u32("llama.block_count", 3),
                u32("llama.context_length", 2048),
                u32("general.file_type", 15),
                pair("yes", BOOL, b"\1"),
                pair("small", I8, b"\xff"),
                pair("half", F32, struct.pack("<f", 0.5)),
                pair("list", ARRAY, struct.pack("<IQ3i", I32, 3, 1, -2, 3)),
                pair("words", ARRAY, struct.pack("<IQ", STRING, 2) + text("a") + text(b"\xff")),
            ),
            (tensor("w", (32, 2), kind=2), tensor("b", (4,), offset=64)),
            data=96,
        )
    )
    assert (header.version, header.architecture, header.alignment) == (3, "llama", 32)
    assert (header.block_count, header.context_length, header.embedding_length) == (3, 2048, None)
    assert (header.file_type_name, header.parameter_count) == ("Q4_K_M", 68)
    assert header.metadata["yes"] is True
    assert header.metadata["small"] == -1
    assert header.metadata["half"] == 0.5
    assert header.metadata["list"] == (1, -2, 3)
    assert header.metadata["words"] == ("a", "\ufffd")
    assert [(t.name, t.type, t.shape, t.offset, t.size_bytes) for t in header.tensors] == [
        ("w", "Q4_0", (32, 2), 0, 36),
        ("b", "F32", (4,), 64, 16),
    ]
    assert header.data_offset + 96 == header.file_bytes


def test_long_arrays_are_skipped_unless_asked_for(read: Read) -> None:
    """A vocabulary costs no memory; `arrays` gives it whole."""
    words = b"".join(text(f"<{n}>") for n in range(5000))
    data = build(
        (
            pair("words", ARRAY, struct.pack("<IQ", STRING, 5000) + words),
            pair("numbers", ARRAY, struct.pack("<IQ2000B", U8, 2000, *[7] * 2000)),
            ARCHITECTURE,
        )
    )
    short = read(data)
    assert short.metadata["words"] == LongArray("STRING", 5000)
    assert short.metadata["numbers"] == LongArray("UINT8", 2000)
    assert short.architecture == "llama"
    full = read(data, arrays=True)
    assert full.metadata["words"] == tuple(f"<{n}>" for n in range(5000))
    assert full.metadata["numbers"] == (7,) * 2000


MALFORMED = {
    "empty": b"",
    "magic only": b"GGUF",
    "no magic": build(magic=b"GGML"),
    "version 0": build(version=0),
    "version 1": build(version=1),
    "version 4": build(version=4),
    "big-endian": build(version=3 << 24),
    "n_kv 2^63": build(pair_count=1 << 63),
    "n_kv 2^64-1": build(pair_count=(1 << 64) - 1),
    "n_kv too many": build(pair_count=2),
    "n_tensors 2^63": build(tensor_count=1 << 63),
    "n_tensors too many": build(tensor_count=1),
    "key length 2^63": build((struct.pack("<Q", 1 << 63) + b"k",)),
    "key longer than allowed": build((pair("k" * 70_000, U8, b"\1"),)),
    "empty key": build((ARCHITECTURE, pair("", U8, b"\1"))),
    "duplicate key": build((ARCHITECTURE, ARCHITECTURE)),
    "key not UTF-8": build((pair(b"\xff", U8, b"\1"),)),
    "string length 2^63": build((pair("k", STRING, struct.pack("<Q", 1 << 63)),)),
    "string length 2^64-1": build((pair("k", STRING, struct.pack("<Q", (1 << 64) - 1)),)),
    "string past the end": build((pair("k", STRING, struct.pack("<Q", 1000)),)),
    "unknown value type": build((pair("k", 13, b"\1"),)),
    "unknown item type": build((pair("k", ARRAY, struct.pack("<IQ", 99, 1)),)),
    "nested array": build((pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1)),)),
    "array length 2^63": build((pair("k", ARRAY, struct.pack("<IQ", U64, 1 << 63)),)),
    "array length 2^61": build((pair("k", ARRAY, struct.pack("<IQ", U64, 1 << 61)),)),
    "array past the end": build((pair("k", ARRAY, struct.pack("<IQ", U64, 1 << 20)),)),
    "string array past the end": build((pair("k", ARRAY, struct.pack("<IQ", STRING, 1 << 20)),)),
    "bool of 2": build((pair("k", BOOL, b"\2"),)),
    "alignment 0": build((u32("general.alignment", 0),)),
    "alignment 3": build((u32("general.alignment", 3),)),
    "alignment 2 MiB": build((u32("general.alignment", 1 << 21),)),
    "alignment negative": build((pair("general.alignment", I32, struct.pack("<i", -32)),)),
    "alignment a text": build((pair("general.alignment", STRING, text("32")),)),
    "arch as int": build((u32("general.architecture", 1),)),
    "arch empty": build((pair("general.architecture", STRING, text("")),)),
    "template as int": build((u32("tokenizer.chat_template", 1),)),
    "block_count 100000": build((ARCHITECTURE, u32("llama.block_count", 100_000))),
    "block_count a text": build((ARCHITECTURE, pair("llama.block_count", STRING, text("3")))),
    "block_count negative": build(
        (ARCHITECTURE, pair("llama.block_count", I32, struct.pack("<i", -1)))
    ),
    "context 2^31": build((ARCHITECTURE, u32("llama.context_length", 1 << 31))),
    "ndim 2^31": build(tensors=(tensor("t", (1,), dims=1 << 31),)),
    "ndim 5": build(tensors=(tensor("t", (1,) * 5),), data=64),
    "dim 2^42+1": build(tensors=(tensor("t", ((1 << 42) + 1,)),), data=64),
    "dims overflow 64 bits": build(tensors=(tensor("t", (1 << 32, 1 << 32)),), data=64),
    "dims overflow to zero": build(tensors=(tensor("t", (1 << 62, 4)),), data=64),
    "dim 0": build(tensors=(tensor("t", (0, 4)),), data=64),
    "offset 2^40": build(tensors=(tensor("t", (4,), offset=1 << 40),), data=64),
    "offset 2^64-32": build(tensors=(tensor("t", (32,), offset=(1 << 64) - 32),), data=128),
    "offset not aligned": build(tensors=(tensor("t", (4,), offset=4),), data=64),
    "tensor past the end": build(tensors=(tensor("t", (17,)),), data=64),
    "tensors overlap": build(tensors=(tensor("a", (16,)), tensor("b", (4,), offset=32)), data=96),
    "duplicate tensor": build(tensors=(tensor("a", (4,)), tensor("a", (4,), offset=32)), data=96),
    "empty tensor name": build(tensors=(tensor("", (4,)),), data=64),
    "long tensor name": build(tensors=(tensor("t" * 64, (4,)),), data=64),
    "tensor name not UTF-8": build(tensors=(tensor(b"\xfe", (4,)),), data=64),
    "unknown tensor type": build(tensors=(tensor("t", (4,), kind=4),), data=64),
    "tensor type 2^32-1": build(tensors=(tensor("t", (4,), kind=(1 << 32) - 1),), data=64),
    "row not in blocks": build(tensors=(tensor("t", (33, 32), kind=2),), data=4096),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_file_is_refused(read: Read, data: bytes) -> None:
    """A typed 400 within a moment and without memory, both ways of reading."""
    for arrays in (False, True):
        tracemalloc.start()
        started_s = time.monotonic()
        with pytest.raises(GgufInvalid) as caught:
            read(data, arrays=arrays)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert time.monotonic() - started_s < 2
        assert peak_bytes < 4 << 20
        assert caught.value.status == 400
        assert len(caught.value.message) < 500


def test_every_prefix_of_a_file_is_refused(read: Read) -> None:
    """Wherever a file is cut short, the error says that, and nothing else happens."""
    whole = build(
        (ARCHITECTURE, pair("list", ARRAY, struct.pack("<IQ3i", I32, 3, 1, 2, 3))),
        (tensor("t", (4,)),),
        data=16,
    )
    read(whole)
    for length in range(len(whole)):
        with pytest.raises(GgufInvalid):
            read(whole[:length])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_makes_another_error(read: Read, data: st.DataObject) -> None:
    """Whatever bytes change: a header, or GgufInvalid."""
    whole = bytearray(
        build(
            (
                ARCHITECTURE,
                u32("llama.block_count", 3),
                pair("words", ARRAY, struct.pack("<IQ", STRING, 2) + text("a") + text("b")),
            ),
            (tensor("t", (4, 2)), tensor("u", (32,), kind=8, offset=32)),
            data=96,
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(whole) - 1))
        whole[position] = data.draw(st.integers(0, 255))
    try:
        header = read(bytes(whole), arrays=data.draw(st.booleans()))
    except GgufInvalid:
        return
    assert all(
        header.data_offset + t.offset + t.size_bytes <= header.file_bytes for t in header.tensors
    )


def test_the_real_model_cut_short_is_refused(smollm2_gguf: Path, tmp_path: Path) -> None:
    """A download that stopped: the error says so."""
    path = tmp_path / "cut.gguf"
    with smollm2_gguf.open("rb") as file:
        path.write_bytes(file.read(10_000_000))
    with pytest.raises(GgufInvalid, match="cut short"):
        read_header(path)


def test_the_real_model_reads_as_gguf_py_reads_it(smollm2_gguf: Path) -> None:
    """Every key, every tensor, every offset equal to the reference implementation's."""
    header = read_header(smollm2_gguf, arrays=True)
    reference = gguf.GGUFReader(smollm2_gguf)
    assert (header.architecture, header.file_type_name) == ("llama", "Q4_1")
    assert header.parameter_count == 134_515_008
    assert header.chat_template is not None
    assert "im_start" in header.chat_template
    assert [(t.name, t.type, t.size_bytes) for t in header.tensors] == [
        (t.name, t.tensor_type.name, t.n_bytes) for t in reference.tensors
    ]
    assert [header.data_offset + t.offset for t in header.tensors] == [
        t.data_offset for t in reference.tensors
    ]
    for key, value in header.metadata.items():
        expected = reference.fields[key].contents()
        assert value == (tuple(expected) if isinstance(expected, list) else expected), key


def test_the_real_model_reads_fast_and_small(smollm2_gguf: Path) -> None:
    """The daemon reads headers itself, so they must cost next to nothing."""
    tracemalloc.start()
    header = read_header(smollm2_gguf)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.metadata["tokenizer.ggml.tokens"] == LongArray("STRING", 49_152)
    assert peak_bytes < 3 << 20


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """Without waiting for a writer at the other end of a pipe."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "missing"):
        with pytest.raises(GgufInvalid):
            read_header(path)


def test_the_tables_agree_with_gguf_py() -> None:
    """Block sizes of tensor types and names of file types, wherever both know the number."""
    for reference in gguf.GGMLQuantizationType:
        if reference.name != "Q8_1":  # gguf-py says 40 bytes; ggml itself has had 36 since 2024
            kind = TENSOR_TYPES[reference.value]
            sizes = gguf.GGML_QUANT_SIZES[reference]
            assert (kind.name, kind.block_items, kind.block_bytes) == (reference.name, *sizes)
    for file_type in gguf.LlamaFileType:
        if file_type.name != "GUESSED":
            name = file_type.name.removeprefix("MOSTLY_").removeprefix("ALL_")
            assert FILE_TYPE_NAMES[file_type.value] == name
