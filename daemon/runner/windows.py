"""Whole states of sequences whose attention slides.

Of the layers with a window llama.cpp writes only what the end of a sequence still sees, so such a
state could be continued at its end alone. Here it has pieces, for all that the cache holds:

    number of pieces, their sizes, the pieces

Each has the sliding layers of one stretch, as an earlier end saw it; the last has the stretch
before the true end, and the other layers.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final, TypeAlias

from qm.modelfiles.native import C

_SLIDING: Final = C.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
_NUMBER: Final = struct.Struct("<Q")

Buffer: TypeAlias = bytearray | memoryview


@dataclass(frozen=True, slots=True)
class _Piece:
    """What the token before position `end` sees."""

    end: int
    n_bytes: int


class Windows:
    """The memory of a context with windows, and a sequence of it that is empty between calls."""

    def __init__(self, context: Any, memory: Any, spare: int) -> None:  # Any: ctypes pointers
        self._context = context
        self._memory = memory
        self._spare = spare

    def state_bytes(self, sequence: int) -> int:
        """The size of `state`."""
        return _size(self._pieces(sequence))

    def state(self, sequence: int) -> bytearray:
        """All that the cache holds of a sequence, which stays as it is."""
        pieces = self._pieces(sequence)
        found = bytearray(_size(pieces))
        numbers = [len(pieces), *(piece.n_bytes for piece in pieces)]
        for at, number in enumerate(numbers):
            _NUMBER.pack_into(found, at * _NUMBER.size, number)
        last = pieces.pop()
        start = len(found) - last.n_bytes
        self._write(sequence, memoryview(found)[start:], 0)
        self._copy(sequence, self._spare)
        for piece in reversed(pieces):
            self._cut(self._spare, piece.end)
            start -= piece.n_bytes
            self._write(self._spare, memoryview(found)[start : start + piece.n_bytes], _SLIDING)
        self._cut(self._spare, 0)
        return found

    def restore(self, sequence: int, guard: int, state: Buffer) -> bool:
        """Puts such a state into an empty sequence and its guard; False, and they are empty again,
        where it isn't whole.
        """
        whole = self._restore(sequence, guard, _split(memoryview(state)))
        self._cut(self._spare, 0)
        if not whole:
            self._cut(sequence, 0)
            self._cut(guard, 0)
        return whole

    def _restore(self, sequence: int, guard: int, pieces: list[memoryview]) -> bool:
        """Through the spare sequence, which loses each piece with the next: two others hold it
        then, or the next would be put over what has left the window.
        """
        end = 0
        for piece in pieces:
            buffer = (ctypes.c_uint8 * len(piece)).from_buffer(piece)
            taken = C.llama_state_seq_set_data_ext(
                self._context, buffer, len(piece), self._spare, _SLIDING * (piece is not pieces[-1])
            )
            # A position that came twice would count twice, and one that is missing not at all.
            if not taken or C.llama_memory_seq_pos_min(self._memory, self._spare) != end:
                return False
            end = self._end(self._spare)
            self._copy(self._spare, sequence)
            self._copy(self._spare, guard)
        return end > 0

    def _pieces(self, sequence: int) -> list[_Piece]:
        """In order; more than one where something has left the window."""
        end = self._end(sequence)
        pieces = [_Piece(end, self._bytes(sequence, 0))]
        one, two = self._prefix_bytes(sequence, 1), self._prefix_bytes(sequence, 2)
        self._copy(sequence, self._spare)
        n_bytes = self._bytes(sequence, _SLIDING)
        while end > 0:
            end -= max(1 + (n_bytes - one) // max(two - one, 1), 1)
            if end > 0:
                self._cut(self._spare, end)
                n_bytes = self._bytes(self._spare, _SLIDING)
                pieces.insert(0, _Piece(end, n_bytes))
        self._cut(self._spare, 0)
        return pieces

    def _prefix_bytes(self, sequence: int, length: int) -> int:
        """The size of the first tokens' sliding layers: each takes as much as any other."""
        C.llama_memory_seq_cp(self._memory, sequence, self._spare, 0, length)
        n_bytes = self._bytes(self._spare, _SLIDING)
        self._cut(self._spare, 0)
        return n_bytes

    def _bytes(self, sequence: int, flags: int) -> int:
        return int(C.llama_state_seq_get_size_ext(self._context, sequence, flags))

    def _write(self, sequence: int, into: memoryview, flags: int) -> None:
        buffer = (ctypes.c_uint8 * len(into)).from_buffer(into)
        C.llama_state_seq_get_data_ext(self._context, buffer, len(into), sequence, flags)

    def _end(self, sequence: int) -> int:
        return int(C.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def _copy(self, source: int, target: int) -> None:
        C.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def _cut(self, sequence: int, end: int) -> None:
        C.llama_memory_seq_rm(self._memory, sequence, end, -1)


def _size(pieces: list[_Piece]) -> int:
    return _NUMBER.size * (1 + len(pieces)) + sum(piece.n_bytes for piece in pieces)


def _split(state: memoryview) -> list[memoryview]:
    """Its pieces; none where they don't add up."""
    if len(state) < _NUMBER.size:
        return []
    (count,) = _NUMBER.unpack_from(state)
    start = _NUMBER.size * (1 + count)
    if start > len(state):
        return []
    ends = list(accumulate(struct.unpack_from(f"<{count}Q", state, _NUMBER.size), initial=start))
    return [state[a:b] for a, b in pairwise(ends)] if ends[-1] == len(state) else []
