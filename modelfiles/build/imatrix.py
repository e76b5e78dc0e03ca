"""Importance matrices: which columns of each weight matrix a text makes a model use most.

llama.cpp calls us for every node of its graph; for the products with weights we sum the squares of
what they are multiplied with. What is counted, and over which chunks, is as llama-imatrix has it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..native import C
from .chunks import check_text, chunked
from .graph_node import F32, NODE_POINTER, Node, check_layout, floats, integers, op_number
from .imatrix_file import Entry, Imatrix
from .native_model import CHUNK_TOKENS, loaded

_MIN_ROWS = 16  # fewer come from steps that are no chunk of text
_MAX_DATASET_BYTES = 127

Doubles = npt.NDArray[np.float64]


def compute_imatrix(
    weights: Sequence[Path], text: bytes, dataset: str, on_chunk: Callable[[int, int], None]
) -> Imatrix:
    """Raises NotText, TextTooShort or ModelUnusable. Same model, text and machine: same matrix."""
    check_text(text, "calibration")
    collector = Collector()
    callback = C.ggml_backend_sched_eval_callback(collector.on_node)
    with loaded(weights, on_node=callback) as model:
        chunks = chunked(model.tokenize(text), "calibration")
        for number, chunk in enumerate(chunks, 1):
            collector.begin()
            model.chunk(chunk)
            if collector.error is not None:
                raise collector.error
            on_chunk(number, len(chunks))
    return collector.imatrix(dataset, len(chunks))


@dataclass(slots=True)
class _Sums:
    """One weight matrix: sums by expert and column, counts by expert."""

    sums: Doubles
    counts: Doubles


@dataclass(slots=True)
class Collector:
    """Sums up while the graph is computed. An error waits in `error`: C can't pass it on."""

    found: dict[str, _Sums] = field(default_factory=dict)
    error: Exception | None = None
    _last: tuple[int, Doubles] | None = None
    _multiply: int = field(default_factory=lambda: op_number("MUL_MAT"))
    _multiply_experts: int = field(default_factory=lambda: op_number("MUL_MAT_ID"))
    _checked: bool = False

    def begin(self) -> None:
        """Nodes of the next pass may lie where others lay before."""
        self._last = None

    def on_node(self, pointer: int, ask: bool, _: object) -> bool:
        """ggml asks first which nodes we want to see computed, then shows them."""
        node = ctypes.cast(pointer, NODE_POINTER).contents
        if ask:
            return self.error is None and self._is_wanted(node)
        try:
            self._collect(node)
        except Exception as error:  # noqa: BLE001  a rim: nothing may escape into C
            self.error = error
            return False
        return True

    def _is_wanted(self, node: Node) -> bool:
        if node.op == self._multiply_experts:
            return True
        if node.op != self._multiply:
            return False
        rows = node.src[1].contents
        if rows.ne[1] < _MIN_ROWS or rows.type != F32:
            return False
        return _name(node).startswith("blk.")

    def _collect(self, node: Node) -> None:
        if not self._checked:
            check_layout(node)
            self._checked = True
        if node.op == self._multiply_experts:
            self._collect_experts(node)
        else:
            self._collect_dense(node)

    def _collect_dense(self, node: Node) -> None:
        weights, rows = node.src[0].contents, node.src[1]
        squares = self._squares(rows)
        n_matrices = weights.ne[2] * weights.ne[3]
        if n_matrices == 1:
            squares = squares.sum(axis=(0, 1)).reshape(1, -1)
        else:  # matrices broadcast over the activations' outer dimensions
            squares = _folded(squares, weights.ne[3], weights.ne[2])
        sums = self._sums(_name(node), squares.shape, 1)
        sums.sums += squares
        shape = rows.contents.ne
        sums.counts += shape[1] * shape[2] * shape[3] / n_matrices

    def _squares(self, rows: Any) -> Doubles:
        """Sums over rows as [ne3, ne2, ne0]; several weights in turn multiply the same rows."""
        address = ctypes.addressof(rows.contents)
        if self._last is None or self._last[0] != address:
            numbers = floats(rows)
            squares = np.einsum("abij,abij->abj", numbers, numbers).astype(np.float64)
            self._last = address, squares
        return self._last[1]

    def _collect_experts(self, node: Node) -> None:
        """Each row goes to the experts that the router chose for it."""
        n_experts = node.src[0].contents.ne[2]
        rows, chosen = floats(node.src[1])[0], integers(node.src[2])[0, 0]
        squares = np.square(rows, dtype=np.float32)  # [tokens, 1 or used, columns]
        sums = self._sums(_name(node), (n_experts, squares.shape[2]), n_experts)
        for used in range(chosen.shape[1]):
            experts = chosen[:, used]
            np.add.at(sums.sums, experts, squares[:, used % squares.shape[1]])
            sums.counts += np.bincount(experts, minlength=n_experts)

    def _sums(self, name: str, shape: tuple[int, ...], n_counts: int) -> _Sums:
        if name not in self.found:
            self.found[name] = _Sums(np.zeros(shape), np.zeros(n_counts))
        return self.found[name]

    def imatrix(self, dataset: str, chunk_count: int) -> Imatrix:
        """What was found, as the file has it."""
        entries = {
            name: Entry(each.sums.astype(np.float32), each.counts.astype(np.float32))
            for name, each in sorted(self.found.items())
        }
        return Imatrix(entries, (dataset[:_MAX_DATASET_BYTES],), chunk_count, CHUNK_TOKENS)


def _folded(squares: Doubles, outer: int, inner: int) -> Doubles:
    """[ne3, ne2, ne0] summed into the matrices that multiply each slice."""
    sums = np.zeros((outer * inner, squares.shape[2]))
    for third in range(squares.shape[0]):
        for second in range(squares.shape[1]):
            sums[third % outer * inner + second % inner] += squares[third, second]
    return sums


def _name(node: Node) -> str:
    """Of the weights, without the marks of a copy on another device: CUDA0#name#0."""
    name: str = node.src[0].contents.name.decode(errors="replace")
    return name.split("#")[1] if "#" in name else name
