"""The KV cache and the batches of one model: llama.cpp's contexts, typed, thin, checked.

What else the runner uses of llama.cpp is in `weights` (loading) and `vocabulary`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any, Final

from qm.modelfiles.native import C, fill

from . import attention
from .likeliest import Likeliest
from .llama_error import LlamaError
from .llama_log import Log
from .spinning import Spinning
from .weights import Model
from .windows import Buffer, Windows
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
_WIDE_KV: Final = ("f32", "f16", "bf16")  # quantised values need flash attention
FLASH_ATTENTION: Final = {"auto": -1, "off": 0, "on": 1}
GUARD_EVERY: Final = 32  # tokens; a call for each would cost more
EMBEDDED_TOGETHER: Final = 16  # texts in one batch; they need no cells of their own
POOLING: Final = {-1: "unspecified", 0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}


class Context:
    """KV cache and compute buffers of one model, for `n_parallel` sequences. Raises LlamaError."""

    def __init__(self, model: Model, placement: Placement, log: Log, *, embedding: bool) -> None:
        self.can_share = not (model.is_recurrent or embedding)
        n_parallel = EMBEDDED_TOGETHER if embedding else placement.n_parallel
        self.n_slots = n_parallel + (placement.n_spare if self.can_share else 0)
        # What can't be taken back in part needs no guard for its parts.
        self._guards = model.window > 0 and self.can_share
        # Beyond the window cells may be overwritten: no step, no run without a guard is as long.
        self.guard_every = min(GUARD_EVERY, max(model.window - 1, 1))
        # States of caches on a device would cross a bus, and what costs there is not the same.
        self.on_host = not model.on_gpu
        # A guard for each, and one sequence that is empty but while a state is moved.
        n_seq = 2 * self.n_slots + 1 if self._guards else self.n_slots
        self.n_outputs = n_seq  # tokens of one batch whose logits can be asked for
        self.can_roll_back = not (model.is_recurrent or embedding)
        self.without_flash = not embedding and spares_flash(model, placement)
        self.n_threads = placement.n_threads or os.cpu_count() or 1
        self._spinning = Spinning(self.n_threads)
        fields = self._fields(placement, n_seq, embedding=embedding)
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
        # What is read before a token doesn't change with what follows, and the last tells all.
        self.reads_on = self.pooling == "last" and not model.sees_ahead
        self.greedy = Likeliest(model.vocabulary.size)
        self._logits_bytes = model.vocabulary.size * ctypes.sizeof(ctypes.c_float)
        self._memory = C.llama_get_memory(self.pointer)
        self._windows = None
        if self._guards:
            self._windows = Windows(self.pointer, self._memory, n_seq - 1)
        self.can_shift = bool(self._memory and C.llama_memory_can_shift(self._memory))

    def _fields(self, placement: Placement, n_seq: int, *, embedding: bool) -> dict[str, object]:
        """The parameters of a context for `n_seq` sequences. Raises LlamaError."""
        n_ubatch = min(placement.n_ubatch, placement.n_batch)
        if self.without_flash:
            n_ubatch = min(n_ubatch, attention.TOKENS_TOGETHER)
        if embedding:  # mean pooling aborts when sequences can't share a batch evenly
            n_ubatch = max(n_ubatch - n_ubatch % n_seq, n_seq)
        return {
            "n_ctx": placement.n_ctx,
            "n_batch": n_ubatch if embedding or self._guards else placement.n_batch,
            "n_ubatch": n_ubatch,
            "n_seq_max": n_seq,
            # Logits are asked for one token a sequence: don't reserve room for a whole batch.
            "n_outputs_max": 0 if embedding else self.n_outputs,
            "n_threads": self.n_threads,
            "n_threads_batch": self.n_threads,
            "flash_attn_type": _choice(
                FLASH_ATTENTION, "off" if self.without_flash else placement.flash_attention
            ),
            "type_k": _choice(KV_TYPES, placement.kv_type),
            "type_v": _choice(KV_TYPES, placement.kv_type),
            "embeddings": embedding,
            "kv_unified": True,
            "swa_full": True,  # a window's cells go on existing, so that prefixes stay reusable
        }

    def adapt(self, adapters: Sequence[Any]) -> None:
        """Adds these adapters of the model to its weights, each in full."""
        pointers = (C.llama_adapter_lora_p_ctypes * len(adapters))(*adapters)
        scales = (ctypes.c_float * len(adapters))(*[1.0] * len(adapters))
        if C.llama_set_adapters_lora(self.pointer, pointers, len(adapters), scales):
            raise LlamaError("load_failed", "llama.cpp can't apply the adapters")

    def decode(self, batch: Batch) -> int:
        """0: done. 1: no room in the cache, nothing happened. Else an error."""
        self._spinning.start()
        status = int(C.llama_decode(self.pointer, batch.struct))
        C.llama_synchronize(self.pointer)  # so that a step's time is its own, on a GPU too
        self._spinning.look()
        return status

    def pause(self) -> None:
        """Others compute now, until the next step."""
        self._spinning.hush()

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

    def state_bytes(self, sequence: int) -> int:
        """The size of `state`."""
        if self._windows is not None:
            return self._windows.state_bytes(sequence)
        return int(C.llama_state_seq_get_size(self.pointer, sequence))

    def state(self, sequence: int) -> bytearray:
        """What the cache holds of one sequence, to be restored under the same conditions."""
        if self._windows is not None:
            return self._windows.state(sequence)
        found = bytearray(self.state_bytes(sequence))
        buffer = (ctypes.c_uint8 * len(found)).from_buffer(found)
        size = C.llama_state_seq_get_data(self.pointer, buffer, len(found), sequence)
        del buffer  # it keeps the size of `found` as it is
        del found[size:]
        return found

    def restore(self, sequence: int, state: Buffer) -> bool:
        """Puts a state into an empty sequence, guarded; False when llama.cpp doesn't take it."""
        if self._windows is not None:
            return self._windows.restore(sequence, sequence + self.n_slots, state)
        buffer = (ctypes.c_uint8 * len(state)).from_buffer(state)
        return bool(C.llama_state_seq_set_data(self.pointer, buffer, len(state), sequence))

    def floor(self, length: int) -> int:
        """The least beginning of a stored state of `length` tokens that can be continued.

        A recurrent state is its end.
        """
        return 0 if self.can_share else length

    def clear(self) -> None:
        if self._memory:
            C.llama_memory_clear(self._memory, False)

    def logits(self, index: int) -> Any:  # Any: a float pointer of n_vocab items
        return C.llama_get_logits_ith(self.pointer, index)

    def likeliest(self, index: int) -> int:
        """The token with the highest of these logits; negative where that isn't known so fast."""
        return self.greedy.of(self.logits(index))

    def logits_bytes(self, index: int) -> bytes:
        """A copy of the same."""
        return ctypes.string_at(self.logits(index), self._logits_bytes)

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


def spares_flash(model: Model, placement: Placement) -> bool:
    """Whether to do without flash attention, where that is ours to choose because it is slow."""
    if placement.flash_attention != "auto":
        return placement.flash_attention == "off"
    possible = not model.on_gpu and placement.kv_type in _WIDE_KV and model.head_width > 0
    return possible and attention.is_slow(model.head_width)


def _choice(table: dict[str, int], name: str) -> int:
    if name not in table:
        raise LlamaError("bad_option", f"{name!r} is none of {', '.join(table)}")
    return table[name]
