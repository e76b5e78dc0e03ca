"""What the runner uses of llama.cpp: typed, thin, checked.

Everything else in the runner speaks of `Model`, `Context`, `Batch` and `Vocabulary`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from qm.modelfiles.native import C, fill

from .llama_log import Log
from .registry import add_servers, buffer_type, device_pointer
from .wire import Placement

KV_TYPES: Final = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}
FLASH_ATTENTION: Final = {"auto": -1, "off": 0, "on": 1}
EMBEDDED_TOGETHER: Final = 16  # texts in one batch; they need no cells of their own
POOLING: Final = {-1: "unspecified", 0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}


class LlamaError(Exception):
    """llama.cpp refused; `code` is one of the words that `wire.Failed` lists."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


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


# Vocabulary -------------------------------------------------------------------------------------


class Vocabulary:
    """Text to tokens and back. Safe to use from a second thread while the model decodes."""

    def __init__(self, model: Any) -> None:
        self.pointer = C.llama_model_get_vocab(model)
        self.size = int(C.llama_vocab_n_tokens(self.pointer))
        self.bos = int(C.llama_vocab_bos(self.pointer))
        self.eos = int(C.llama_vocab_eos(self.pointer))
        self.sep = int(C.llama_vocab_sep(self.pointer))
        self.add_bos = bool(C.llama_vocab_get_add_bos(self.pointer))
        self.add_eos = bool(C.llama_vocab_get_add_eos(self.pointer))
        self.add_sep = bool(C.llama_vocab_get_add_sep(self.pointer))
        self.fim_pre = int(C.llama_vocab_fim_pre(self.pointer))
        self.fim_suf = int(C.llama_vocab_fim_suf(self.pointer))
        self.fim_mid = int(C.llama_vocab_fim_mid(self.pointer))
        self._pieces: dict[tuple[int, bool], bytes] = {}
        self._ends: dict[int, bool] = {}

    @property
    def has_fim(self) -> bool:
        return min(self.fim_pre, self.fim_suf, self.fim_mid) >= 0

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of `text`."""
        data = text.encode("utf-8", errors="replace")
        room = len(data) // 2 + 16
        while True:
            tokens = (ctypes.c_int32 * room)()
            count = C.llama_tokenize(
                self.pointer, data, len(data), tokens, room, add_special, parse_special
            )
            if count >= 0:
                return tokens[:count]
            if room >= len(data) + 16:
                raise LlamaError("bad_option", "the text has too many tokens to count")
            room = min(-count, len(data) + 16)

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes that `token` stands for; nothing for control tokens, unless `special`."""
        known = self._pieces.get((token, special))
        if known is None:
            known = self._pieces[token, special] = self._piece(token, special=special)
        return known

    def text(self, token: int) -> str:
        """How `token` reads, control tokens too; for templates and logs."""
        return "" if token < 0 else self._piece(token, special=True).decode(errors="replace")

    def _piece(self, token: int, *, special: bool) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = C.llama_token_to_piece(self.pointer, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def check(self, tokens: Sequence[int]) -> None:
        """Raises LlamaError unless all of them exist."""
        for token in tokens:
            if not 0 <= token < self.size:
                raise LlamaError("bad_option", f"there is no token {token}; {self.size} exist")

    def ends(self, token: int) -> bool:
        """Whether `token` ends generation."""
        known = self._ends.get(token)
        if known is None:
            known = self._ends[token] = bool(C.llama_vocab_is_eog(self.pointer, token))
        return known

    def spellings(self) -> list[tuple[bytes, bool]]:
        """How every token reads, and whether it is a control token. Takes long: ask once."""
        return [
            (
                self._piece(token, special=True),
                bool(C.llama_vocab_get_attr(self.pointer, token) & C.LLAMA_TOKEN_ATTR_CONTROL),
            )
            for token in range(self.size)
        ]

    def all_ends(self) -> list[int]:
        """Every token that ends generation."""
        return [token for token in range(self.size) if self.ends(token)]


# Model and context ------------------------------------------------------------------------------


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
    ) -> None:
        """`dry`: allocates nothing, so that a context of it tells what a real one would take."""
        if wrong := add_servers(placement.rpc_servers):
            raise LlamaError("device_lost", f"an RPC server of this placement: {wrong}")
        self._progress = C.llama_progress_callback(lambda fraction, _: on_progress(fraction))
        fields = _device_fields(placement) | {
            # A dry run aborts unless it reads nothing of the file.
            "load_mode": 0 if dry else _load_mode(placement),
            "no_alloc": dry,
            "progress_callback": self._progress,
        }
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

    def free(self) -> None:
        C.llama_model_free(self.pointer)


def _load(weights: Sequence[str], params: Any) -> Any:
    paths = [os.fsencode(path) for path in weights]
    if len(paths) == 1:
        return C.llama_model_load_from_file(paths[0], params)
    return C.llama_model_load_from_splits(
        (ctypes.c_char_p * len(paths))(*paths), len(paths), params
    )


def _choice(table: dict[str, int], name: str) -> int:
    if name not in table:
        raise LlamaError("bad_option", f"{name!r} is none of {', '.join(table)}")
    return table[name]


class Context:
    """KV cache and compute buffers of one model, for `n_parallel` sequences. Raises LlamaError."""

    def __init__(self, model: Model, placement: Placement, log: Log, *, embedding: bool) -> None:
        self.can_share = not (model.is_recurrent or embedding)
        n_parallel = EMBEDDED_TOGETHER if embedding else placement.n_parallel
        self.n_slots = n_parallel + (placement.n_spare if self.can_share else 0)
        self._guards = model.window > 0 and not embedding
        # How much of a restored state is complete; of a recurrent one nothing but its end.
        self.window = 1 if model.is_recurrent else model.window
        n_seq = self.n_slots * (2 if self._guards else 1)
        threads = placement.n_threads or os.cpu_count() or 1
        n_ubatch = min(placement.n_ubatch, placement.n_batch)
        if embedding:  # mean pooling aborts when sequences can't share a batch evenly
            n_ubatch = max(n_ubatch - n_ubatch % n_seq, n_seq)
        self.n_threads = threads
        fields: dict[str, object] = {
            "n_ctx": placement.n_ctx,
            "n_batch": n_ubatch if embedding else placement.n_batch,
            "n_ubatch": n_ubatch,
            "n_seq_max": n_seq,
            # Logits are asked for one token a sequence: don't reserve room for a whole batch.
            "n_outputs_max": 0 if embedding else n_seq,
            "n_threads": threads,
            "n_threads_batch": threads,
            "flash_attn_type": _choice(FLASH_ATTENTION, placement.flash_attention),
            "type_k": _choice(KV_TYPES, placement.kv_type),
            "type_v": _choice(KV_TYPES, placement.kv_type),
            "embeddings": embedding,
            "kv_unified": True,
            "swa_full": True,  # a window's cells go on existing, so that prefixes stay reusable
        }
        self.pointer = C.llama_init_from_model(
            model.pointer, fill(C.llama_context_default_params(), fields)
        )
        if not self.pointer:
            raise LlamaError(log.cause(), log.explain("llama.cpp can't make a context"))
        self.n_ctx = int(C.llama_n_ctx(self.pointer))
        self.n_parallel = n_parallel
        self.n_batch = int(C.llama_n_batch(self.pointer))
        self.n_ubatch = int(C.llama_n_ubatch(self.pointer))
        self.pooling = POOLING.get(int(C.llama_pooling_type(self.pointer)), "none")
        self._memory = C.llama_get_memory(self.pointer)
        self.can_shift = bool(self._memory and C.llama_memory_can_shift(self._memory))

    def adapt(self, adapters: Sequence[Any]) -> None:
        """Adds these adapters of the model to its weights, each in full."""
        pointers = (C.llama_adapter_lora_p_ctypes * len(adapters))(*adapters)
        scales = (ctypes.c_float * len(adapters))(*[1.0] * len(adapters))
        if C.llama_set_adapters_lora(self.pointer, pointers, len(adapters), scales):
            raise LlamaError("load_failed", "llama.cpp can't apply the adapters")

    def decode(self, batch: Batch) -> int:
        """0: done. 1: no room in the cache, nothing happened. Else an error."""
        status = int(C.llama_decode(self.pointer, batch.struct))
        C.llama_synchronize(self.pointer)  # so that a step's time is its own, on a GPU too
        return status

    def remove(self, sequence: int, start: int, end: int = -1) -> bool:
        """Forgets positions [start, end); False when this memory can't forget a part."""
        if self._guards:
            C.llama_memory_seq_rm(self._memory, sequence + self.n_slots, start, end)
        return bool(C.llama_memory_seq_rm(self._memory, sequence, start, end))

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Lets sequence `target` use the cells of `source` in [start, end), guarded alike."""
        C.llama_memory_seq_cp(self._memory, source, target, start, end)
        self.guard(target, start, end)

    def guard(self, sequence: int, start: int, end: int) -> None:
        """Keeps cells of [start, end) that have left a sliding window from being overwritten.

        llama.cpp takes such cells for new tokens, unless a second sequence has them too. Without
        them a prompt that branches off before the window would be answered wrongly.
        """
        if self._guards:
            C.llama_memory_seq_cp(self._memory, sequence, sequence + self.n_slots, start, end)

    def shift(self, sequence: int, start: int, delta: int) -> None:
        """Moves what stands at `start` and later by `delta` positions."""
        C.llama_memory_seq_add(self._memory, sequence, start, -1, delta)

    def state(self, sequence: int) -> bytes:
        """What the cache holds of one sequence, to be restored under the same conditions."""
        buffer = (ctypes.c_uint8 * C.llama_state_seq_get_size(self.pointer, sequence))()
        size = C.llama_state_seq_get_data(self.pointer, buffer, len(buffer), sequence)
        return bytes(memoryview(buffer)[:size])

    def restore(self, sequence: int, state: bytes) -> bool:
        """Puts a state into an empty sequence; False when llama.cpp doesn't take it."""
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        return bool(C.llama_state_seq_set_data(self.pointer, buffer, len(state), sequence))

    def clear(self) -> None:
        if self._memory:
            C.llama_memory_clear(self._memory, False)

    def logits(self, index: int) -> Any:  # Any: a float pointer of n_vocab items
        return C.llama_get_logits_ith(self.pointer, index)

    def pooled(self, sequence: int, width: int) -> list[float]:
        """The embedding of one sequence of the last batch."""
        pointer = C.llama_get_embeddings_seq(self.pointer, sequence)
        if not pointer:
            raise LlamaError("decode_failed", "llama.cpp returned no embedding")
        return pointer[:width]  # type: ignore[no-any-return]  # ctypes: a list of floats

    def free(self) -> None:
        C.llama_free(self.pointer)


class Batch:
    """Tokens of one decode step, written through slices into memory that llama.cpp reads."""

    def __init__(self, room: int) -> None:
        self.n_tokens = 0
        self.room = room
        # Any: ctypes takes any sequence in a slice, which its types don't say
        self._token: Any = (ctypes.c_int32 * room)()
        self._position: Any = (ctypes.c_int32 * room)()
        self._sequence: Any = (ctypes.c_int32 * room)()
        self._output: Any = (ctypes.c_int8 * room)()
        self._one = (ctypes.c_int32 * room)(*([1] * room))
        pointer = ctypes.POINTER(ctypes.c_int32)
        start, width = ctypes.addressof(self._sequence), ctypes.sizeof(ctypes.c_int32)
        self._pointers = (pointer * room)(
            *(ctypes.cast(start + i * width, pointer) for i in range(room))
        )
        self.struct = C.llama_batch(
            n_tokens=0,
            token=self._token,
            embd=None,
            pos=self._position,
            n_seq_id=self._one,
            seq_id=self._pointers,
            logits=self._output,
        )

    def clear(self) -> None:
        self.n_tokens = 0
        self.struct.n_tokens = 0

    def add_one(self, token: int, position: int, sequence: int) -> int:
        """Adds one token whose logits are wanted; the index to ask for them."""
        index = self.n_tokens
        self._token[index] = token
        self._position[index] = position
        self._sequence[index] = sequence
        self._output[index] = 1
        self.n_tokens = self.struct.n_tokens = index + 1
        return index

    def add_many(
        self,
        tokens: list[int],
        position: int,
        sequence: int,
        *,
        output: bool,
        every: bool = False,
    ) -> int:
        """Adds a run of tokens; the index of the last, whose logits are wanted if `output`.

        `every` wants an output of each token, as pooling does.
        """
        start, count = self.n_tokens, len(tokens)
        end = start + count
        self._token[start:end] = tokens
        self._position[start:end] = range(position, position + count)
        self._sequence[start:end] = [sequence] * count
        self._output[start:end] = (b"\1" if every else b"\0") * count
        self._output[end - 1] = int(output)
        self.n_tokens = self.struct.n_tokens = end
        return end - 1
