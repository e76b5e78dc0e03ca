"""What the daemon and a runner say to each other: typed frames on a socketpair.

A frame is a 4-byte big-endian length and that many bytes of msgpack, one tagged struct each.
Requests carry an `id` that the daemon chose; every answer names it. One runner holds one model and
works on many requests at once, so answers of different ids interleave.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import TypeAlias

import msgspec

from ..devices import RemoteDevice

MAX_FRAME_BYTES = 256 * 1024 * 1024  # a prompt with images; a longer frame is a broken peer
HELLO_ID = 0  # ids of requests start at 1; `Hello` answers none
_LENGTH = struct.Struct(">I")


class Speculate(StrEnum):
    """When tokens are guessed ahead. Only `FAST` may change what a repeatable answer says, where
    this machine's kernels round differently for more tokens at once.
    """

    OFF = "off"
    AUTO = "auto"  # where it measures faster
    FAST = "fast"  # the same, though near-tied tokens may fall otherwise
    ALWAYS = "always"  # wherever there is a guess


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options, None: not set here. Defaults and ranges are in `qm.modelfiles.parameters`."""

    num_predict: int | None = None
    num_keep: int | None = None
    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    logit_bias: dict[int, float] | None = None
    ignore_eos: bool | None = None
    stop: tuple[str, ...] | None = None
    grammar: str | None = None  # the daemon reads it: `Generate` has what holds
    # Load-time wishes: placement reads them, the sampler does not.
    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    num_thread: int | None = None
    num_parallel: int | None = None
    kv_type: str | None = None
    use_mmap: bool | None = None
    draft_num_predict: int | None = None


class TensorOverride(msgspec.Struct, frozen=True):
    """Tensors whose name matches `pattern` (a regex) go to the buffer type of `device`."""

    pattern: str
    device: str


class Placement(msgspec.Struct, frozen=True):
    """Where a model goes; decided by `daemon.fit`, performed by the runner.

    `layers[i]` go to `devices[i]` (named as in ggml's backend registry, but for `remotes`, those
    that workers have); the rest stays on the CPU. `n_ctx` counts the tokens of the whole KV cache,
    shared by `n_parallel` sequences; one may hold at most `n_ctx_seq` of them (0: all).
    """

    n_ctx: int
    n_batch: int = 512
    n_ubatch: int = 512
    n_parallel: int = 1
    n_threads: int = 0  # 0: as many as there are physical cores
    n_gpu_layers: int = 0
    devices: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    main_gpu: int = 0
    overrides: tuple[TensorOverride, ...] = ()
    kv_type: str = "f16"
    flash_attention: str = "auto"
    use_mmap: bool = True
    use_mlock: bool = False
    remotes: tuple[RemoteDevice, ...] = ()
    n_ctx_seq: int = 0
    companions_on_gpu: bool = False  # projector and draft model: on the first of `devices`
    n_spare: int = 4  # conversations whose cells are kept besides those of requests that run

    @property
    def rpc_servers(self) -> tuple[str, ...]:
        """The workers that it needs; others may be busy with somebody else's model."""
        return tuple(dict.fromkeys(one.endpoint for one in self.remotes))


# Daemon to runner ---------------------------------------------------------------------------


class Load(msgspec.Struct, frozen=True, tag=True):
    """The first frame: load these files. Answered by `Progress`es, then `Loaded` or `Failed`."""

    id: int
    weights: tuple[str, ...]  # absolute paths; several for a split GGUF, in order
    placement: Placement
    adapters: tuple[str, ...] = ()
    projector: str | None = None
    draft: str | None = None
    embedding: bool = False
    kv_directory: str | None = None  # where KV snapshots are kept, at most `kv_budget_bytes`
    kv_budget_bytes: int = 0
    model_digest: str = ""
    speculate: Speculate = Speculate.AUTO


class Generate(msgspec.Struct, frozen=True, tag=True):
    """Answered by one `Evaluated`, then `Chunk`s, then `Done`; or by `Failed` at any point.

    `prompt` is rendered text, tokenised with special tokens parsed; `tokens` wins when given.
    `options` is complete: the daemon has filled in every default. Constraint: at most one of
    `json_schema` (JSON text), `grammar` (GBNF). `constrain_after` names the text that ends
    unconstrained reasoning, `reasoning_start` the text that begins it, where the prompt has not.
    `logprobs` < 0 means none, else how many alternatives.
    """

    id: int
    options: Options
    prompt: str = ""
    tokens: tuple[int, ...] | None = None
    images: tuple[bytes, ...] = ()
    json_schema: str | None = None
    grammar: str | None = None
    constrain_after: str | None = None
    reasoning_start: str = ""
    logprobs: int = -1
    truncate: bool = False  # cut the middle of a too-long prompt instead of failing
    shift: bool = True  # drop old tokens when the context is full instead of stopping
    return_context: bool = False
    image_marker: str = ""  # stands in `prompt` where each of `images` belongs
    special: bool = False  # control tokens are part of the text
    suffix: str | None = None  # fill-in-the-middle: prompt is what stands before the gap
    client: str = ""
    score_prompt: bool = False  # tell the log probabilities of the prompt's tokens, too


class Embed(msgspec.Struct, frozen=True, tag=True):
    """Answered by `Embedded` with one L2-normalised vector an input, or `Failed`."""

    id: int
    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    truncate: bool = True
    dimensions: int | None = None
    rerank_query: str | None = None  # set: score each text against it


class Tokenize(msgspec.Struct, frozen=True, tag=True):
    """Answered by `Tokens`. With `images`, where `image_marker` stands, a prompt's text."""

    id: int
    text: str
    add_special: bool = True
    parse_special: bool = True
    images: tuple[bytes, ...] = ()
    image_marker: str = ""


class Detokenize(msgspec.Struct, frozen=True, tag=True):
    """Answered by `Text`. `special` makes control tokens part of it."""

    id: int
    tokens: tuple[int, ...]
    special: bool = False


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Stop request `id` before its next token. It is answered by `Done` with reason `cancelled`."""

    id: int


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Answered by `Pong` between two decode steps: proof that the loop turns."""

    id: int


class Exit(msgspec.Struct, frozen=True, tag=True):
    """Save what is warm, free the model, end the process."""


# Runner to daemon ---------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The process is up with llama.cpp imported and waits for `Load`."""

    pid: int
    llama_cpp_python: str


class Progress(msgspec.Struct, frozen=True, tag=True):
    """How much of the model is loaded, 0 to 1."""

    id: int
    fraction: float


class DeviceBytes(msgspec.Struct, frozen=True):
    """What llama.cpp's own buffer report says was allocated on one device."""

    device: str
    weights_bytes: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The model answers. `can_shift` and `can_share` say what its memory type allows.

    A request may hold `n_ctx` tokens with its answer. `bos` and `eos` are texts, for templates.
    """

    id: int
    n_ctx: int
    n_ctx_train: int
    n_parallel: int
    n_vocab: int
    n_embd: int
    bos: str
    eos: str
    add_bos: bool
    can_shift: bool
    can_share: bool
    has_fim: bool
    pooling: str
    memory: tuple[DeviceBytes, ...] = ()
    modalities: tuple[str, ...] = ()  # of "vision", "audio"
    n_ctx_total: int = 0  # of the whole cache


class TokenLogprob(msgspec.Struct, frozen=True):
    """One token with its log probability, unless nothing precedes it, and its `top` rivals."""

    token: str
    logprob: float
    bytes: tuple[int, ...] = ()
    token_id: int = -1
    top: tuple[TokenLogprob, ...] = ()
    known: bool = True


class Evaluated(msgspec.Struct, frozen=True, tag=True):
    """The prompt is counted, before its evaluation starts."""

    id: int
    prompt_tokens: int
    cached_tokens: int


class Chunk(msgspec.Struct, frozen=True, tag=True):
    """Text of new tokens, whole UTF-8 and no part of a stop string; or the prompt's logprobs."""

    id: int
    text: str
    n_tokens: int = 1
    logprobs: tuple[TokenLogprob, ...] = ()


class Done(msgspec.Struct, frozen=True, tag=True):
    """Generation ended. `reason`: stop, stop_sequence, length or cancelled. Times in ns."""

    id: int
    reason: str
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    prompt_ns: int
    generate_ns: int
    stop_sequence: str = ""
    context: tuple[int, ...] = ()
    drafted_tokens: int = 0
    accepted_tokens: int = 0


class Embedded(msgspec.Struct, frozen=True, tag=True):
    """`vectors[i]` is little-endian float32 of input i; for rerank, one float each."""

    id: int
    vectors: tuple[bytes, ...]
    prompt_tokens: int


class Tokens(msgspec.Struct, frozen=True, tag=True):
    """Token ids of a `Tokenize`; -1 for each token that an image takes."""

    id: int
    tokens: tuple[int, ...]


class Text(msgspec.Struct, frozen=True, tag=True):
    """Text of a `Detokenize`."""

    id: int
    text: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Request `id` failed; the runner goes on unless it was `Load`.

    `code` is one of: load_failed, out_of_memory, prompt_too_long, bad_grammar, bad_schema,
    bad_option, unsupported, decode_failed. `facts` are the numbers behind `message`.
    """

    id: int
    code: str
    message: str
    facts: dict[str, int] = {}


class Pong(msgspec.Struct, frozen=True, tag=True):
    """Answer to `Ping`."""

    id: int
    active: int = 0


ToRunner: TypeAlias = Load | Generate | Embed | Tokenize | Detokenize | Cancel | Ping | Exit
FromRunner: TypeAlias = (
    Hello | Progress | Loaded | Evaluated | Chunk | Done | Embedded | Tokens | Text | Failed | Pong
)

_ENCODER = msgspec.msgpack.Encoder()
_TO_RUNNER: msgspec.msgpack.Decoder[ToRunner] = msgspec.msgpack.Decoder(ToRunner)
_FROM_RUNNER: msgspec.msgpack.Decoder[FromRunner] = msgspec.msgpack.Decoder(FromRunner)


class BrokenPeer(Exception):
    """The other side sent what is no frame of ours; the connection can't be used any more."""


def encode(message: ToRunner | FromRunner) -> bytes:
    """One whole frame, ready to be written."""
    body = _ENCODER.encode(message)
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream, fed in any pieces, into frames' bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that `data` completes. Raises BrokenPeer for an oversized frame."""
        self._buffer += data
        bodies: list[bytes] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise BrokenPeer(f"frame of {length} bytes; at most {MAX_FRAME_BYTES} are allowed")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
        return bodies


def decode_to_runner(body: bytes) -> ToRunner:
    """Raises BrokenPeer."""
    try:
        return _TO_RUNNER.decode(body)
    except msgspec.DecodeError as error:
        raise BrokenPeer(str(error)) from error


def decode_from_runner(body: bytes) -> FromRunner:
    """Raises BrokenPeer."""
    try:
        return _FROM_RUNNER.decode(body)
    except msgspec.DecodeError as error:
        raise BrokenPeer(str(error)) from error
