"""One GGUF to another of a smaller type, by llama.cpp's own quantiser, or as it would do it.

Call it in a process that can be killed: the quantiser allocates as the file says.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from qm.store.durable import disk_error, write_all
from qm.store.errors import QmError
from qm.store.gguf import Header

from ..native import C, fill
from ..quantization import COPY, TENSOR_TYPE_NUMBERS, Quantize
from ..spec import TensorType
from .imatrix_file import Imatrix
from .native_log import native_log
from .quantise_rows import READABLE, Data, InvalidNumbers, quantised_bytes, quantised_file
from .quantised_head import ALIGNMENT, Head, quantised_head
from .sharing import sharing

_STRING, _INTEGER = 3, 0  # llama_model_kv_override_type
_VALUE_BYTES = 127
_PROBE_BYTES = 1 << 20
# What it says in a dry run: "[  12/ 272] blk.0.attn_k.weight - [576, …], type =   bf16,", then
# "size = … (q4_K)" where that changes.
_TENSOR = re.compile(r"\[ *\d+/ *\d+\] (\S+) .*type = +(\w+),")
_NEW_TYPE = re.compile(r"^size = .* -> .*\((\w+)\)$")
_NEEDS_MATRIX = "will require an imatrix"
_PREDICTED = re.compile(r"quant size\s*=\s*([\d.]+) MiB")
# What llama-quantize records is the path that it was given; ours lies where nobody can look.
IMATRIX_NAME = "imatrix.gguf"


OnTensor: TypeAlias = Callable[[str, int, int], None]
"""Gets the name of a tensor before it is read, its number, and how many there are."""


class QuantiseFailed(QmError):
    """llama.cpp's quantiser gave up; the message has its reason."""

    code = "quantize_failed"


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that decides the bytes of the result, besides the source."""

    quantize: Quantize
    tensor_types: Sequence[TensorType] = ()
    imatrix: Imatrix | None = None


def quantise(source: Path, target: Path, order: Order, on_tensor: OnTensor) -> None:
    """Writes `target`, which may exist and is overwritten. Raises QuantiseFailed."""
    log = native_log()
    parameters, kept = _parameters(order)
    with log.telling(on_tensor=_letting_others_in(on_tensor)), sharing().turn():
        status = C.llama_model_quantize(
            os.fsencode(source), os.fsencode(target), ctypes.byref(parameters)
        )
    del kept
    if status:
        _check_writable(target)
        raise QuantiseFailed(log.last_words(f"can't quantize to {order.quantize.type}"))


@dataclass(frozen=True, slots=True)
class Quantised:
    """The bytes of a quantised file, front to back, and how many there will be."""

    size_bytes: int
    data: Generator[Data]


def quantised(source: Path, header: Header, order: Order, on_tensor: OnTensor) -> Quantised | None:
    """What `quantise` would write; None where only that can tell.

    Its data raises QuantiseFailed, while it goes on.
    """
    if order.imatrix is not None or order.quantize.type == COPY:
        return None
    types = _planned(source, order)
    changed = [each.type for each in header.tensors if types.get(each.name, "") != each.type]
    if header.alignment != ALIGNMENT or not READABLE.issuperset(changed):
        return None
    if len(types) != len(header.tensors) or not TENSOR_TYPE_NUMBERS.keys() >= {*types.values()}:
        return None
    head = quantised_head(source, order.quantize.number, types)
    if head is None:
        return None
    return Quantised(
        quantised_bytes(header, head), _performed(source, header, head, order, on_tensor)
    )


def _performed(
    source: Path, header: Header, head: Head, order: Order, on_tensor: OnTensor
) -> Generator[Data]:
    begin = _letting_others_in(on_tensor)
    try:
        with sharing().turn():
            yield from quantised_file(source, header, head, _threads(order.quantize), begin)
    except InvalidNumbers as error:
        raise QuantiseFailed(str(error)) from error


def _letting_others_in(on_tensor: OnTensor) -> OnTensor:
    """Between two tensors, where it is our turn."""
    shared = sharing()

    def begin(name: str, number: int, count: int) -> None:
        shared.pause()
        on_tensor(name, number, count)

    return begin


def _planned(source: Path, order: Order) -> dict[str, str]:
    """Every tensor's type to be, in the order of the file to be; nothing where that may not be."""
    lines = _dry_run(source, order)
    if any(_NEEDS_MATRIX in line for line in lines):
        return {}
    types: dict[str, str] = {}
    for line in lines:
        if match := _TENSOR.match(line):
            name, kind = match.groups()
            types[name] = kind.upper()
        elif types and (match := _NEW_TYPE.search(line)):
            types[name] = match[1].upper()
    return types


def _check_writable(target: Path) -> None:
    """Raises StoreFull where no more fits into the file: llama.cpp says only that it failed."""
    try:
        with target.open("ab", buffering=0) as file:
            size_bytes = file.tell()
            write_all(file.fileno(), bytes(_PROBE_BYTES))
            os.truncate(target, size_bytes)
    except OSError as error:
        raise disk_error(error, "quantizing") from error


def predicted_bytes(source: Path, order: Order) -> int:
    """About what the weights would take, to 10 kB; nothing is made. Raises QuantiseFailed."""
    lines = _dry_run(source, order)
    found = [float(match[1]) for line in lines if (match := _PREDICTED.search(line))]
    if not found:
        raise QuantiseFailed(native_log().last_words(f"can't predict {order.quantize.type}"))
    return int(found[-1] * (1 << 20))


def _dry_run(source: Path, order: Order) -> list[str]:
    """What llama.cpp's quantiser says when it only pretends; nothing if it refuses."""
    lines = list[str]()
    parameters, kept = _parameters(order)
    parameters.dry_run = True
    with native_log().telling(on_line=lines.append):
        status = C.llama_model_quantize(os.fsencode(source), b"", ctypes.byref(parameters))
    del kept
    return [] if status else lines


def _parameters(order: Order) -> tuple[Any, list[Any]]:  # Any: ctypes structs
    """The struct, and what it points to, which must outlive the call."""
    wish, kept = order.quantize, []
    values: dict[str, object] = {
        "nthread": _threads(wish),
        "ftype": wish.number,
        "allow_requantize": wish.requantize,
        "only_copy": wish.type == COPY,
        "pure": wish.pure,
    }
    if wish.output:
        values["output_tensor_type"] = TENSOR_TYPE_NUMBERS[wish.output]
    if wish.embedding:
        values["token_embedding_type"] = TENSOR_TYPE_NUMBERS[wish.embedding]
    if order.tensor_types:
        rows = _overrides(order.tensor_types)
        kept.append(rows)
        values["tt_overrides"] = rows
    if order.imatrix is not None:
        matrix, arrays = _matrix(order.imatrix)
        notes = _notes(order.imatrix)
        kept += [matrix, arrays, notes]
        values |= {"imatrix": matrix, "kv_overrides": notes}
    return fill(C.llama_model_quantize_default_params(), values), kept


def _threads(wish: Quantize) -> int:
    return wish.threads or len(os.sched_getaffinity(0))


def _overrides(tensor_types: Sequence[TensorType]) -> Any:
    """Pattern and type, ended by an empty row; in lower case, as llama-quantize has them."""
    rows = [
        (each.pattern.lower().encode(), TENSOR_TYPE_NUMBERS[each.type]) for each in tensor_types
    ]
    return (C.llama_model_tensor_override * (len(rows) + 1))(*rows)


def _matrix(imatrix: Imatrix) -> tuple[Any, list[Any]]:
    means = imatrix.means()
    table = (C.llama_model_imatrix_data * (len(means) + 1))()
    for row, (name, values) in zip(table, means.items(), strict=False):
        row.name = name.encode()
        row.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        row.size = values.size
    return table, list(means.values())


def _notes(imatrix: Imatrix) -> Any:
    """What the file says about the matrix that it was made with; llama-quantize's keys."""
    notes: list[tuple[str, str | int]] = [("quantize.imatrix.file", IMATRIX_NAME)]
    if imatrix.datasets:
        notes.append(("quantize.imatrix.dataset", imatrix.datasets[0]))
    notes.append(("quantize.imatrix.entries_count", len(imatrix.entries)))
    if imatrix.chunk_count > 0:
        notes.append(("quantize.imatrix.chunks_count", imatrix.chunk_count))
    table = (C.llama_model_kv_override * (len(notes) + 1))()
    for row, (key, value) in zip(table, notes, strict=False):
        row.key = key.encode()
        if isinstance(value, str):
            row.tag, row.value.val_str = _STRING, value.encode()[:_VALUE_BYTES]
        else:
            row.tag, row.value.val_i64 = _INTEGER, value
    return table
