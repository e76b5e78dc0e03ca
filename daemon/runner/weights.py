"""Loads a model's weights onto the devices that a placement names."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qm.modelfiles.native import C, fill

from ..both_ways import sees_ahead
from .llama_error import LlamaError
from .llama_log import Log
from .registry import add_remotes, buffer_type, device_pointer
from .vocabulary import Vocabulary
from .wire import Placement

_NAME_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class TokenCount:
    """How many tokens a model of this architecture knows."""

    architecture: str
    size: int


class Model:
    """Weights and vocabulary. Raises LlamaError; `on_progress` returning False stops the load."""

    def __init__(
        self,
        weights: Sequence[str],
        placement: Placement,
        on_progress: Callable[[float], bool],
        log: Log,
        *,
        dry: bool = False,
        tokens: TokenCount | None = None,
    ) -> None:
        """`dry`: allocates nothing, so that a context of it tells what a real one would take.

        `tokens`, for dry runs: counts as a vocabulary, which takes most of the time to read.
        """
        if wrong := add_remotes(placement.remotes):
            raise LlamaError("device_lost", wrong)
        self._progress = C.llama_progress_callback(lambda fraction, _: on_progress(fraction))
        fields = _device_fields(placement) | {
            # A dry run aborts unless it reads nothing of the file.
            "load_mode": 0 if dry else _load_mode(placement),
            "no_alloc": dry,
            "progress_callback": self._progress,
        }
        if tokens is not None:
            fields["kv_overrides"] = _without_vocabulary(tokens)
        params = fill(C.llama_model_default_params(), fields)
        self.pointer = _load(weights, params)
        if not self.pointer:
            raise LlamaError(log.cause(), log.explain("llama.cpp can't load the model"))
        self.vocabulary = Vocabulary(self.pointer)
        self.on_gpu = placement.n_gpu_layers > 0
        self.n_ctx_train = int(C.llama_model_n_ctx_train(self.pointer))
        self.n_embd = int(C.llama_model_n_embd_out(self.pointer))
        template = C.llama_model_chat_template(self.pointer, b"rerank")
        self.rank_template = template.decode(errors="replace") if template else ""
        self.has_decoder = bool(C.llama_model_has_decoder(self.pointer))
        self.is_pair = self.has_decoder and bool(C.llama_model_has_encoder(self.pointer))
        self.window = int(C.llama_model_n_swa(self.pointer))  # tokens; 0: attention sees all
        # State that is no list of cells: a prefix of it can't be taken back or shared.
        self.is_recurrent = bool(
            C.llama_model_is_recurrent(self.pointer) or C.llama_model_is_hybrid(self.pointer)
        )

    def adapter(self, path: str, log: Log) -> Any:  # Any: freed with the model
        """A LoRA adapter for this model."""
        adapter = C.llama_adapter_lora_init(self.pointer, os.fsencode(path))
        if not adapter:
            raise LlamaError("load_failed", log.explain("llama.cpp can't load the adapter"))
        return adapter

    @property
    def token_count(self) -> TokenCount:
        return TokenCount(self._metadata("general.architecture"), self.vocabulary.size)

    @property
    def head_width(self) -> int:
        """Numbers of one head's key and value; 0 where there is none, or they differ."""
        attention = f"{self._metadata('general.architecture')}.attention"
        key = self._metadata(f"{attention}.key_length")
        if key != self._metadata(f"{attention}.value_length"):
            return 0
        n_heads = int(C.llama_model_n_head(self.pointer))
        return int(key or 0) or (int(C.llama_model_n_embd(self.pointer)) // max(n_heads, 1))

    @property
    def sees_ahead(self) -> bool:
        """Whether its attention looks both ways."""
        architecture = self._metadata("general.architecture")
        said = self._metadata(f"{architecture}.attention.causal")
        return sees_ahead(architecture, {"true": True, "false": False}.get(said))

    def _metadata(self, key: str) -> str:
        """A value as text; empty where there is none."""
        value = ctypes.create_string_buffer(_NAME_BYTES)
        C.llama_model_meta_val_str(self.pointer, key.encode(), value, len(value))
        return value.value.decode()

    def free(self) -> None:
        C.llama_model_free(self.pointer)


def _load(weights: Sequence[str], params: Any) -> Any:
    paths = [os.fsencode(path) for path in weights]
    if len(paths) == 1:
        return C.llama_model_load_from_file(paths[0], params)
    return C.llama_model_load_from_splits(
        (ctypes.c_char_p * len(paths))(*paths), len(paths), params
    )


def _without_vocabulary(tokens: TokenCount) -> Any:
    """Values that llama.cpp takes for the file's own; what it needs of them is their number."""
    table = (C.llama_model_kv_override * 3)()
    table[0].key, table[0].tag = b"tokenizer.ggml.model", C.LLAMA_KV_OVERRIDE_TYPE_STR
    table[0].value.val_str = b"no_vocab"
    table[1].key = f"{tokens.architecture}.vocab_size".encode()
    table[1].tag, table[1].value.val_i64 = C.LLAMA_KV_OVERRIDE_TYPE_INT, tokens.size
    return ctypes.cast(table, ctypes.POINTER(C.llama_model_kv_override))


# Devices ----------------------------------------------------------------------------------------


class _TensorOverride(ctypes.Structure):
    _fields_ = (("pattern", ctypes.c_char_p), ("buft", ctypes.c_void_p))


def _device(name: str) -> int:
    pointer = device_pointer(name)
    if not pointer:
        raise LlamaError("load_failed", f"there is no device {name!r} on this machine")
    return pointer


def _device_fields(placement: Placement) -> dict[str, object]:
    """Model parameters that say which device holds what. Arrays in it must outlive the load.

    The list of devices is always given: without one llama.cpp would compute on every GPU it finds.
    """
    handles = [_device(name) for name in placement.devices]
    array = (ctypes.c_void_p * (len(handles) + 1))(*handles, None)
    fields: dict[str, object] = {
        "devices": ctypes.cast(array, ctypes.c_void_p),
        "n_gpu_layers": placement.n_gpu_layers,
        "main_gpu": placement.main_gpu,
    }
    if placement.layers:
        split = [float(layers) for layers in placement.layers]
        split += [0.0] * (C.llama_max_devices() - len(split))
        fields["tensor_split"] = (ctypes.c_float * len(split))(*split)
    if placement.overrides:
        rows: Any = [  # Any: ctypes makes structs of tuples
            (o.pattern.encode(), buffer_type(_device(o.device))) for o in placement.overrides
        ]
        table = (_TensorOverride * (len(rows) + 1))(*rows)
        fields["tensor_buft_overrides"] = ctypes.cast(table, ctypes.c_void_p)
    return fields


def _load_mode(placement: Placement) -> int:
    return int(placement.use_mmap) + 2 * int(placement.use_mlock)  # none, mmap, mlock, both
