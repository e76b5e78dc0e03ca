"""Images and sounds in prompts: read by llama.cpp's projectors, held in a prompt as other tokens.

In a list of tokens, what a picture becomes has numbers below zero that follow from its content, so
that a conversation with the same picture finds it in the KV cache. It has one for each position:
models that place images in two dimensions (M-RoPE) have more cells of the cache at one position,
and its first number tells how many more.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qm.modelfiles.native import C, bind_media, fill

from . import media_files
from .cells import EXTRA_BITS
from .llama import Context
from .llama_error import LlamaError
from .llama_log import Log
from .registry import device_pointer
from .weights import Model
from .wire import Placement

_TEXT: Final = 0  # the type of a chunk that is text
_ID_BITS: Final = 44


@dataclass(frozen=True, slots=True)
class Piece:
    """Media at positions [start, start + count) of a prompt; `chunk` is mtmd's."""

    start: int
    count: int
    n_cells: int
    chunk: Any  # Any: a pointer


class Media:
    """The pictures and sounds of one prompt. Must be freed."""

    def __init__(self, projector: Projector, pieces: Sequence[Piece], chunks: Any) -> None:
        self._projector = projector
        self._pieces = {piece.start: piece for piece in pieces}
        self._chunks = chunks

    def at(self, position: int) -> Piece | None:
        """The piece that begins at `position`."""
        return self._pieces.get(position)

    def next_start(self, position: int) -> int | None:
        """Where the first piece at `position` or behind it begins."""
        return min((start for start in self._pieces if start >= position), default=None)

    def evaluate(self, context: Context, piece: Piece, sequence: int) -> bool:
        """Puts a piece into the KV cache of `sequence`; whether that worked."""
        return self._projector.evaluate(context, piece, sequence)

    def free(self) -> None:
        bind_media().mtmd_input_chunks_free(self._chunks)


def projector_params(placement: Placement) -> Any:  # Any: mtmd's structure
    """How a projector is loaded: where the placement has the model's companions."""
    device = device_pointer(placement.devices[0]) if placement.companions_on_gpu else 0
    return fill(
        bind_media().mtmd_context_params_default(),
        {
            "n_threads": placement.n_threads or os.cpu_count() or 1,
            "print_timings": False,
            "use_gpu": bool(device),
            "device": device or None,
        },
    )


class Projector:
    """A loaded projector. `parse` may be called beside everything else, `evaluate` may not."""

    def __init__(self, path: str, model: Model, placement: Placement, log: Log) -> None:
        self._api = api = bind_media()
        api.mtmd_helper_log_set(log.callback, None)
        params = projector_params(placement)
        self._pointer = api.mtmd_init_from_file(path.encode(), model.pointer, params)
        if not self._pointer:
            raise LlamaError("load_failed", log.explain("llama.cpp can't load the projector"))
        sees, hears = api.mtmd_support_vision, api.mtmd_support_audio
        self.modalities = tuple(
            name for name, able in (("vision", sees), ("audio", hears)) if able(self._pointer)
        )

    def parse(
        self, texts: Sequence[str], files: Sequence[bytes], *, add_special: bool
    ) -> tuple[list[int], Media]:
        """The tokens of texts with a file between each two. Raises LlamaError."""
        media_files.check(files)
        api = self._api
        bitmaps = [self._bitmap(number, data) for number, data in enumerate(files, 1)]
        chunks = api.mtmd_input_chunks_init()
        try:
            kept, parts = self._parts(texts, bitmaps)
            status = api.mtmd_tokenize_from_parts(
                self._pointer, chunks, parts, len(parts), add_special
            )
            del kept
            if status:
                raise LlamaError("bad_option", "the model can't take these images or sounds")
            return self._read(chunks)
        except LlamaError:
            api.mtmd_input_chunks_free(chunks)
            raise
        finally:
            for bitmap in bitmaps:
                api.mtmd_bitmap_free(bitmap)

    def evaluate(self, context: Context, piece: Piece, sequence: int) -> bool:
        """Puts a piece into the KV cache of `sequence`; whether that worked."""
        after = C.llama_pos()
        status = self._api.mtmd_helper_eval_chunk_single(
            self._pointer,
            context.pointer,
            piece.chunk,
            piece.start,
            sequence,
            context.n_batch,
            False,
            ctypes.byref(after),
        )
        return not status and bool(after.value == piece.start + piece.count)

    def free(self) -> None:
        self._api.mtmd_free(self._pointer)

    def _bitmap(self, number: int, data: bytes) -> Any:
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        bitmap = self._api.mtmd_helper_bitmap_init_from_buf(self._pointer, buffer, len(data), False)
        if not bitmap:
            deaf = "audio" not in self.modalities and not media_files.is_picture(data)
            why = "this model can't hear" if deaf else "it is damaged"
            raise LlamaError("bad_option", f"image {number} can't be read; {why}")
        return bitmap

    def _parts(self, texts: Sequence[str], bitmaps: Sequence[Any]) -> tuple[list[Any], Any]:
        """mtmd's array of parts, and what must outlive it."""
        api = self._api
        structs: list[Any] = []
        kept: list[Any] = []
        for number, text in enumerate(texts):
            data = text.encode(errors="replace")
            if data:
                held = api.mtmd_input_text(data, len(data), False, True)
                kept.append(held)
                structs.append(api.mtmd_input_part(ctypes.pointer(held), None))
            if number < len(bitmaps):
                structs.append(api.mtmd_input_part(None, bitmaps[number]))
        pointers = [ctypes.pointer(struct) for struct in structs]
        return [*kept, *structs], (ctypes.POINTER(api.mtmd_input_part) * len(pointers))(*pointers)

    def _read(self, chunks: Any) -> tuple[list[int], Media]:
        api = self._api
        tokens: list[int] = []
        pieces: list[Piece] = []
        seen: Counter[bytes] = Counter()
        for index in range(api.mtmd_input_chunks_size(chunks)):
            chunk = api.mtmd_input_chunks_get(chunks, index)
            if api.mtmd_input_chunk_get_type(chunk) == _TEXT:
                n_tokens = ctypes.c_size_t()
                pointer = api.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(n_tokens))
                tokens += pointer[: n_tokens.value]
                continue
            n_cells = int(api.mtmd_input_chunk_get_n_tokens(chunk))
            count = int(api.mtmd_input_chunk_get_n_pos(chunk))
            if not count <= n_cells < 1 << EXTRA_BITS:
                raise LlamaError("unsupported", "the model places images in an unknown way")
            name = api.mtmd_input_chunk_get_id(chunk) or b""
            pieces.append(Piece(len(tokens), count, n_cells, chunk))
            tokens += _numbers(name, seen[name], count, n_cells - count)
            seen[name] += count
        return tokens, Media(self, pieces, chunks)


def _numbers(name: bytes, start: int, count: int, extra: int) -> Iterator[int]:
    """What stands for `count` positions of the file called `name` in a list of tokens."""
    first = int.from_bytes(hashlib.sha256(name).digest()[:8]) + start
    for offset in range(count):
        low = 0 if offset else extra
        yield -1 - ((first + offset) % (1 << _ID_BITS) << EXTRA_BITS | low)
