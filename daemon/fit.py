"""Where a model goes and what that takes: facts, machine and wishes in, a placement out.

Pure. Weights are counted from the tensor table; the KV cache follows from the architecture's
numbers; compute buffers are estimated after what llama.cpp allocates for one micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from qm.store.errors import QmError
from qm.store.gguf import Header

from .hardware import Machine
from .runner.wire import Options, Placement

MIN_CONTEXT = 4  # as Ollama clamps num_ctx
LEAST_AUTOMATIC_CONTEXT = 512  # where nobody asked for a number, less than this is no use
_CONTEXT_STEP = 256  # llama.cpp pads the KV cache to this
RUNNER_BYTES = 48 << 20  # its process with llama.cpp, before any model
_ACTIVATIONS = 16  # rows as wide as the embedding that one token's evaluation holds, at most
_FLOAT_BYTES = 4
_MAX_UBATCH = 512
KV_BYTES_PER_ELEMENT = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}


class DoesNotFit(QmError):
    """The model needs more memory than the machine can give; the message has the account."""

    code = "out_of_memory"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The numbers of a model that decide its size."""

    weights_bytes: int
    n_ctx_train: int
    n_embd: int
    n_vocab: int
    kv_elements: int  # a token, all layers, keys and values together


@dataclass(frozen=True, slots=True)
class Wanted:
    """What holds where the request's options say nothing."""

    context_length: int
    n_parallel: int
    kv_type: str = "f16"


@dataclass(frozen=True, slots=True)
class Fit:
    """A placement, what it is predicted to take, and why it is as it is.

    `target_n_ctx` is the context that was wanted; `placement.n_ctx` is less only where nobody
    asked for a number and memory is short.
    """

    placement: Placement
    target_n_ctx: int
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    reason: str

    @property
    def predicted_bytes(self) -> int:
        """What llama.cpp should report to have allocated."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes

    @property
    def needed_bytes(self) -> int:
        """What the machine must have for it."""
        return self.predicted_bytes + RUNNER_BYTES


def model_facts(header: Header, extra_weights_bytes: int = 0) -> ModelFacts:
    """The facts of one GGUF; numbers that it does not give count as zero.

    `extra_weights_bytes` are the files that load with it: projectors, adapters, further parts.
    """
    return ModelFacts(
        weights_bytes=header.weights_bytes + extra_weights_bytes,
        n_ctx_train=header.context_length or 0,
        n_embd=header.embedding_length or 0,
        n_vocab=max(
            (one.shape[-1] for one in header.tensors if _is_vocabulary(one.name)), default=0
        ),
        kv_elements=_kv_elements(header),
    )


def fit(facts: ModelFacts, machine: Machine, wishes: Options, wanted: Wanted) -> Fit:
    """The placement for these wishes. Raises DoesNotFit with the numbers."""
    case = _Case(facts, machine, wishes, wanted)
    whole = case.sized(case.target)
    if whole.needed_bytes <= machine.available_bytes:
        return whole
    smaller = None if case.asked else case.shrunk()
    if smaller is not None:
        return smaller
    raise DoesNotFit(
        f"the model needs {_mib(whole.needed_bytes)} with a context of {case.target} tokens "
        f"(weights {_mib(whole.weights_bytes)}, KV cache {_mib(whole.kv_bytes)}, "
        f"compute {_mib(whole.compute_bytes)}); {_mib(machine.available_bytes)} are available. "
        "Try a smaller num_ctx or a smaller quantisation"
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """One question to `fit`."""

    facts: ModelFacts
    machine: Machine
    wishes: Options
    wanted: Wanted

    @property
    def asked(self) -> bool:
        """Whether somebody named a context; then it is never made smaller silently."""
        return bool(self.wishes.num_ctx and self.wishes.num_ctx > 0)

    @property
    def target(self) -> int:
        wish = (self.wishes.num_ctx or 0) if self.asked else self.wanted.context_length
        return max(MIN_CONTEXT, min(wish, self.facts.n_ctx_train or wish))

    def sized(self, n_ctx: int) -> Fit:
        placement = self._placement(n_ctx)
        return Fit(
            placement=placement,
            target_n_ctx=self.target,
            weights_bytes=self.facts.weights_bytes,
            kv_bytes=self._kv_bytes(n_ctx),
            compute_bytes=self._compute_bytes(placement),
            reason=self._reason(placement),
        )

    def shrunk(self) -> Fit | None:
        """The largest context that fits, in whole steps; None when not even the least does."""
        room = self.machine.available_bytes - self.sized(0).needed_bytes
        step_bytes = self._kv_bytes(_CONTEXT_STEP)
        n_ctx = room // step_bytes * _CONTEXT_STEP if step_bytes else 0
        if n_ctx < min(LEAST_AUTOMATIC_CONTEXT, self.target):
            return None
        return self.sized(min(n_ctx, self.target))

    def _placement(self, n_ctx: int) -> Placement:
        n_batch = self.wishes.num_batch or _MAX_UBATCH
        return Placement(
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_ubatch=min(n_batch, _MAX_UBATCH),
            n_parallel=self.wishes.num_parallel or self.wanted.n_parallel,
            n_threads=self.wishes.num_thread or self.machine.n_cores,
            kv_type=self._kv_type,
            use_mmap=self.wishes.use_mmap is not False,
        )

    @property
    def _kv_type(self) -> str:
        return self.wishes.kv_type or self.wanted.kv_type

    def _kv_bytes(self, n_ctx: int) -> int:
        padded = -(-n_ctx // _CONTEXT_STEP) * _CONTEXT_STEP
        return int(padded * self.facts.kv_elements * KV_BYTES_PER_ELEMENT[self._kv_type])

    def _compute_bytes(self, placement: Placement) -> int:
        """Activations of a micro-batch, and the logits of each sequence's last token."""
        n_outputs = placement.n_parallel + placement.n_spare
        activations = placement.n_ubatch * _ACTIVATIONS * self.facts.n_embd
        return _FLOAT_BYTES * (activations + n_outputs * self.facts.n_vocab)

    def _reason(self, placement: Placement) -> str:
        cut = f"; memory is short for {self.target}" if placement.n_ctx < self.target else ""
        return (
            f"on the CPU with {placement.n_threads} threads, context {placement.n_ctx} "
            f"of {self.facts.n_ctx_train} trained{cut}"
        )


def _is_vocabulary(tensor_name: str) -> bool:
    return tensor_name in ("token_embd.weight", "output.weight")


def _kv_elements(header: Header) -> int:
    n_layers = header.block_count or 0
    heads = _numbers(header, "attention.head_count") or [1]
    kv_heads = _numbers(header, "attention.head_count_kv") or heads
    if len(kv_heads) == 1:
        kv_heads = kv_heads * n_layers
    head_size = (header.embedding_length or 0) // max(1, *heads)
    key = header.of_architecture("attention.key_length") or head_size
    value = header.of_architecture("attention.value_length") or head_size
    return sum(kv_heads[:n_layers]) * (key + value)


def _numbers(header: Header, name: str) -> list[int]:
    """One number for all layers, or one a layer."""
    value = header.metadata.get(f"{header.architecture}.{name}")
    listed = value if isinstance(value, list | tuple) else [value]
    return [one for one in listed if isinstance(one, int)]


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"
