"""A model loaded for measuring: text goes through it chunk by chunk, nothing is sampled."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from qm.store.errors import QmError

from ..native import C, fill
from .native_log import native_log
from .sharing import sharing

CHUNK_TOKENS = 512
"""How much of a text is looked at together; what llama-imatrix and llama-perplexity default to."""

Floats = npt.NDArray[np.float32]


class ModelUnusable(QmError):
    """llama.cpp can't load or run the model; the message has its reason."""

    code = "model_unusable"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and its context, which sees one chunk at a time."""

    model: Any  # pointers of the binding
    context: Any
    vocabulary: Any
    n_vocab: int
    bos: int | None
    batch: Any

    def tokenize(self, text: bytes) -> list[int]:
        """Special tokens at the ends as the model wants them; marks in the text stay text."""
        room = len(text) + 16
        while True:
            tokens = (ctypes.c_int32 * room)()
            count = C.llama_tokenize(self.vocabulary, text, len(text), tokens, room, True, False)
            if count >= 0:
                return tokens[:count]
            if -count <= room:
                raise ModelUnusable("the text has too many tokens to count")
            room = -count

    def decode(self, tokens: Sequence[int], *, position: int = 0, outputs_from: int = 0) -> float:
        """Takes tokens in; those from `outputs_from` on get logits. Gives the seconds it computed,
        without those in which others had the CPU.
        """
        self.batch.fill(tokens, position, outputs_from)
        status, seconds = sharing().compute(
            self.context, self.batch.struct, in_pieces=len(tokens) > 1
        )
        if status:
            raise ModelUnusable(native_log().last_words(f"llama.cpp can't run it ({status})"))
        return seconds

    def chunk(self, tokens: Sequence[int], *, outputs_from: int = 0) -> None:
        """Takes one chunk in, by itself, its first token replaced by the mark of a beginning."""
        self.clear()
        first = tokens[0] if self.bos is None else self.bos
        self.decode([first, *tokens[1:]], outputs_from=outputs_from)

    def clear(self) -> None:
        C.llama_memory_clear(C.llama_get_memory(self.context), True)

    def logits(self, n_outputs: int) -> Floats:
        """Of the last `decode`, one row an output; valid until the next."""
        pointer = C.llama_get_logits(self.context)
        return np.ctypeslib.as_array(pointer, shape=(n_outputs, self.n_vocab))


class _Batch:
    """Memory that llama.cpp reads tokens from."""

    def __init__(self, room: int) -> None:
        # Any: ctypes takes any sequence in a slice, which its types don't say
        self._token: Any = (ctypes.c_int32 * room)()
        self._position: Any = (ctypes.c_int32 * room)()
        self._output: Any = (ctypes.c_int8 * room)()
        self._ones = (ctypes.c_int32 * room)(*([1] * room))
        sequence = (ctypes.c_int32 * 1)(0)
        pointer = ctypes.POINTER(ctypes.c_int32)
        self._sequences = (pointer * room)(*([ctypes.cast(sequence, pointer)] * room))
        self.struct = C.llama_batch(
            n_tokens=0,
            token=self._token,
            embd=None,
            pos=self._position,
            n_seq_id=self._ones,
            seq_id=self._sequences,
            logits=self._output,
        )

    def fill(self, tokens: Sequence[int], position: int, outputs_from: int) -> None:
        count = len(tokens)
        self._token[:count] = tokens
        self._position[:count] = range(position, position + count)
        self._output[:count] = [int(at >= outputs_from) for at in range(count)]
        self.struct.n_tokens = count


@contextmanager
def loaded(
    weights: Sequence[Path], *, n_outputs: int = CHUNK_TOKENS, on_node: Any = None
) -> Iterator[Loaded]:
    """The model, freed afterwards. `on_node` is a callback for every node of the graph.

    Raises ModelUnusable.
    """
    log = native_log()
    log.errors.clear()
    C.llama_backend_init()
    model = _load(weights)
    if not model:
        raise ModelUnusable(log.last_words("llama.cpp can't load the model"))
    try:
        context = C.llama_init_from_model(model, _context_parameters(n_outputs, on_node))
        if not context:
            raise ModelUnusable(log.last_words("llama.cpp can't make a context"))
        try:
            yield _describe(model, context)
        finally:
            C.llama_free(context)
    finally:
        C.llama_model_free(model)


def _load(weights: Sequence[Path]) -> Any:
    parameters = C.llama_model_default_params()
    paths = [os.fsencode(path) for path in weights]
    if len(paths) == 1:
        return C.llama_model_load_from_file(paths[0], parameters)
    splits = (ctypes.c_char_p * len(paths))(*paths)
    return C.llama_model_load_from_splits(splits, len(paths), parameters)


def _context_parameters(n_outputs: int, on_node: Any) -> Any:
    threads = len(os.sched_getaffinity(0))
    values: dict[str, object] = {
        "n_ctx": CHUNK_TOKENS,
        "n_batch": CHUNK_TOKENS,
        "n_ubatch": CHUNK_TOKENS,  # a chunk is one pass through the graph
        "n_seq_max": 1,
        "n_outputs_max": n_outputs,
        "n_threads": threads,
        "n_threads_batch": threads,
    }
    if on_node is not None:
        values["cb_eval"] = on_node
    return fill(C.llama_context_default_params(), values)


def _describe(model: Any, context: Any) -> Loaded:
    vocabulary = C.llama_model_get_vocab(model)
    adds_bos = bool(C.llama_vocab_get_add_bos(vocabulary))
    return Loaded(
        model=model,
        context=context,
        vocabulary=vocabulary,
        n_vocab=int(C.llama_vocab_n_tokens(vocabulary)),
        bos=int(C.llama_vocab_bos(vocabulary)) if adds_bos else None,
        batch=_Batch(CHUNK_TOKENS),
    )
