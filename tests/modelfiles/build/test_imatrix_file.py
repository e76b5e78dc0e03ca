"""Importance matrices go into files and come back; what is none is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from qm.modelfiles.build.imatrix_file import (
    Entry,
    Imatrix,
    ImatrixInvalid,
    pack_imatrix,
    read_imatrix,
)
from qm.store.errors import InvalidRequest


def entry(*rows: list[float], counts: list[int]) -> Entry:
    return Entry(np.array(rows, np.float32), np.array(counts, np.float32))


def test_what_was_packed_is_read_back(tmp_path: Path) -> None:
    """Dense matrices and experts, in any order: the file is sorted by name."""
    entries = {
        "blk.1.ffn.weight": entry([1, 2, 3], [4, 5, 6], counts=[2, 0]),
        "blk.0.attn_q.weight": entry([0.5, 1.5], counts=[512]),
    }
    packed = pack_imatrix(Imatrix(entries, ("qm",), 3, 512))
    (tmp_path / "m.gguf").write_bytes(packed)
    found = read_imatrix(tmp_path / "m.gguf")
    assert (found.datasets, found.chunk_count, found.chunk_size) == (("qm",), 3, 512)
    assert set(found.entries) == set(entries)
    for name, one in entries.items():
        assert np.array_equal(found.entries[name].sums, one.sums)
        assert np.array_equal(found.entries[name].counts, one.counts)
    assert pack_imatrix(Imatrix(dict(reversed(entries.items())), ("qm",), 3, 512)) == packed


def test_means_are_one_for_experts_that_were_never_asked() -> None:
    """As llama-quantize reads it."""
    means = Imatrix({"w": entry([2, 4], [0, 0], counts=[2, 0])}).means()
    assert means["w"].tolist() == [1, 2, 1, 1]


def test_reads_the_layout_before_gguf(tmp_path: Path) -> None:
    """Many published matrices are still in it."""
    name = b"blk.0.attn_q.weight"
    data = struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii2f", 4, 2, 8.0, 16.0)
    data += struct.pack("<ii", 9, 4) + b"wiki"
    (tmp_path / "m.dat").write_bytes(data)
    found = read_imatrix(tmp_path / "m.dat")
    assert found.means()[name.decode()].tolist() == [2, 4]
    assert (found.chunk_count, found.datasets) == (9, ("wiki",))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain words, no matrix at all",
        struct.pack("<ii", 1, 2**30),
        struct.pack("<ii", 2**30, 4),
        struct.pack("<ii", 1, 4) + b"name" + struct.pack("<ii", 1, 2**30),
        b"GGUF",
    ],
)
def test_what_is_no_matrix_is_refused(tmp_path: Path, data: bytes) -> None:
    """Lengths that lie allocate nothing."""
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(InvalidRequest):
        read_imatrix(tmp_path / "m")


def test_a_model_is_no_matrix(tmp_path: Path, tiny_llama: Path) -> None:
    """A GGUF of another kind says so."""
    with pytest.raises(ImatrixInvalid):
        read_imatrix(tiny_llama)


def test_a_nan_is_refused(tmp_path: Path) -> None:
    """It would spread into every weight that it touches."""
    packed = pack_imatrix(Imatrix({"w": entry([float("nan")], counts=[1])}, ("x",), 1, 512))
    (tmp_path / "m").write_bytes(packed)
    with pytest.raises(ImatrixInvalid, match="NaN"):
        read_imatrix(tmp_path / "m")
