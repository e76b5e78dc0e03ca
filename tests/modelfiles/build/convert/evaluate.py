"""What llama.cpp calculates with a tiny GGUF, in this process."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

_POOLING_NONE = 0


def last_state(
    path: Path, tokens: Sequence[int], *, encoder: bool, adapter: Path | None = None
) -> npt.NDArray[np.float32]:
    """The logits of the last token; of an encoder, its last token's state."""
    parameters = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    assert model, f"llama.cpp can't load {path.name}"
    try:
        return _evaluated(model, tokens, encoder, adapter)
    finally:
        llama_cpp.llama_model_free(model)


def _evaluated(
    model: Any, tokens: Sequence[int], encoder: bool, adapter: Path | None
) -> npt.NDArray[np.float32]:
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 64
    parameters.n_threads = parameters.n_threads_batch = 1
    if encoder:
        parameters.embeddings, parameters.pooling_type = True, _POOLING_NONE
    context = llama_cpp.llama_init_from_model(model, parameters)
    assert context
    try:
        if adapter is not None:
            _apply(model, context, adapter)
        _decode(context, tokens)
        if encoder:
            width = llama_cpp.llama_model_n_embd(model)
            pointer = llama_cpp.llama_get_embeddings_ith(context, len(tokens) - 1)
        else:
            width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
            pointer = llama_cpp.llama_get_logits_ith(context, len(tokens) - 1)
        return np.ctypeslib.as_array(pointer, (width,)).copy()
    finally:
        llama_cpp.llama_free(context)


def _apply(model: Any, context: Any, adapter: Path) -> None:
    """It is freed with the model."""
    loaded = llama_cpp.llama_adapter_lora_init(model, str(adapter).encode())
    assert loaded, f"llama.cpp can't load {adapter.name}"
    handles = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(loaded)
    scales = (ctypes.c_float * 1)(1.0)
    assert llama_cpp.llama_set_adapters_lora(context, handles, 1, scales) == 0


def _decode(context: Any, tokens: Sequence[int]) -> None:
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = 1
        assert llama_cpp.llama_decode(context, batch) == 0
    finally:
        llama_cpp.llama_batch_free(batch)


# llama.cpp's words are of no interest here
_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
