"""What comes out is, byte for byte, what llama-quantize makes of the same input.

`recorded/quantize.json` has the digests of llama-quantize's files, for a tiny model and a made-up
importance matrix: the tool of the llama.cpp inside llama-cpp-python 0.3.36, compiled without AMX.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from qm.modelfiles.build.imatrix_file import Entry, Imatrix, pack_imatrix, read_imatrix
from qm.modelfiles.build.quantise import Order, QuantiseFailed, quantise, quantised
from qm.modelfiles.quantization import COPY, FILE_TYPES, parse_quantize
from qm.modelfiles.spec import TensorType
from qm.store.gguf import read_header

RECORDED: dict[str, str | None] = json.loads(
    (Path(__file__).parent / "recorded/quantize.json").read_text()
)

# llama.cpp prepares these for seconds before the first row: QM_TEST_LONG=1 tries them too.
SLOW = {"IQ1_S", "IQ1_M", "IQ2_S", "IQ2_M"}
TYPES = sorted(FILE_TYPES if os.environ.get("QM_TEST_LONG") else set(FILE_TYPES) - SLOW)


@pytest.fixture(scope="module")
def imatrix(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Imatrix:
    """The recorded files' matrix, through a file and back."""
    entries = {}
    for number, name in enumerate(tiny.matrix_names()):
        sums = 4 * (1 + (np.arange(tiny.columns(name)) * 7 + number) % 13)
        entries[name] = Entry(sums.astype(np.float32).reshape(1, -1), np.array([4], np.float32))
    path = tmp_path_factory.mktemp("imatrix") / "imatrix.gguf"
    path.write_bytes(pack_imatrix(Imatrix(entries, ("text",), 2, 512)))
    return read_imatrix(path)


def made(child: ProcessPoolExecutor, source: Path, target: Path, order: Order) -> str:
    """The digest of the file that the quantiser wrote."""
    child.submit(quantise, source, target, order, print).result(60)
    return sha256(target.read_bytes()).hexdigest()


def made_by_rows(child: ProcessPoolExecutor, source: Path, order: Order) -> str | None:
    """The digest of what `quantised` gives, if it gives anything."""
    return child.submit(digest_by_rows, source, order).result(60)


def digest_by_rows(source: Path, order: Order) -> str | None:
    found = quantised(source, read_header(source), order, print)
    if found is None:
        return None
    data = b"".join(found.data)
    assert len(data) == found.size_bytes  # as was said before
    return sha256(data).hexdigest()


@pytest.mark.parametrize("name", TYPES)
def test_every_type_equals_llama_quantize(
    name: str, child: ProcessPoolExecutor, tiny_llama: Path, tmp_path: Path, imatrix: Imatrix
) -> None:
    """With and without an importance matrix; where that is missing, both refuse.

    Row by row comes the same; where a matrix has a say, that is left to llama.cpp.
    """
    wish, target = parse_quantize(name.lower()), tmp_path / "out.gguf"
    with_matrix = made(child, tiny_llama, target, Order(wish, imatrix=imatrix))
    assert with_matrix == RECORDED[f"{name} imatrix"]
    assert wish.needs_imatrix == (RECORDED[f"{name} plain"] is None)
    assert made_by_rows(child, tiny_llama, Order(wish, imatrix=imatrix)) is None
    by_rows = None if wish.type == COPY else RECORDED[f"{name} plain"]
    assert made_by_rows(child, tiny_llama, Order(wish)) == by_rows
    if wish.needs_imatrix:
        with pytest.raises(QuantiseFailed, match="requires an imatrix"):
            made(child, tiny_llama, target, Order(wish))
    else:
        assert made(child, tiny_llama, target, Order(wish)) == RECORDED[f"{name} plain"]


@pytest.mark.parametrize("text", ["Q4_K_M pure", "Q4_K_M output=Q8_0 embedding=Q5_K"])
def test_options_equal_those_of_llama_quantize(
    text: str, child: ProcessPoolExecutor, tiny_llama: Path, tmp_path: Path
) -> None:
    """The words of QUANTIZE mean its flags; the number of threads changes nothing."""
    order = Order(parse_quantize(f"{text} threads=1"))
    assert made(child, tiny_llama, tmp_path / "out.gguf", order) == RECORDED[text]
    assert made_by_rows(child, tiny_llama, order) == RECORDED[text]


def test_tensor_types_equal_those_of_llama_quantize(
    child: ProcessPoolExecutor, tiny_llama: Path, tmp_path: Path
) -> None:
    """TENSOR_TYPE means --tensor-type."""
    order = Order(parse_quantize("Q4_K_M"), [TensorType("attn_v", "Q6_K")])
    assert made(child, tiny_llama, tmp_path / "out.gguf", order) == RECORDED["Q4_K_M attn_v=Q6_K"]


def test_requantizing_must_be_asked_for(
    child: ProcessPoolExecutor, tiny_llama: Path, tmp_path: Path
) -> None:
    """The reason is llama.cpp's own."""
    small = tmp_path / "q8.gguf"
    made(child, tiny_llama, small, Order(parse_quantize("Q8_0")))
    with pytest.raises(QuantiseFailed, match="requantizing from type q8_0 is disabled"):
        made(child, small, tmp_path / "out.gguf", Order(parse_quantize("Q4_0")))
    asked = Order(parse_quantize("Q4_0 requantize"))
    assert made_by_rows(child, small, asked) is None
    assert made(child, small, tmp_path / "out.gguf", asked)


def test_a_matrix_of_another_model_is_refused(
    child: ProcessPoolExecutor, tiny_llama: Path, tmp_path: Path, imatrix: Imatrix
) -> None:
    """Sums of the wrong number are an error, not ignored."""
    wrong = {name: Entry(each.sums[:, :128], each.counts) for name, each in imatrix.entries.items()}
    order = Order(parse_quantize("Q4_K_M"), imatrix=Imatrix(wrong))
    with pytest.raises(QuantiseFailed, match="imatrix size 128 is different from tensor size"):
        made(child, tiny_llama, tmp_path / "out.gguf", order)
