"""Sampler chains: what one request's options mean in llama.cpp's terms."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from ctypes import byref, c_char_p, cast
from typing import Any, Final

from qm.modelfiles.native import C

from .llama import Context
from .llama_error import LlamaError
from .vocabulary import Vocabulary
from .wire import Options

DRY_BREAKERS: Final = (b"\n", b":", b'"', b"*")
_MIROSTAT_CANDIDATES: Final = 100  # as the paper has it
_MIN_KEEP: Final = 1
_RANDOM_SEED: Final = 0xFFFFFFFF  # has llama.cpp choose one
_FORBIDDEN: Final = float("-inf")


class Sampler:
    """Picks tokens for one sequence. Must be freed."""

    def __init__(self, options: Options, vocabulary: Vocabulary, n_ctx: int) -> None:
        self._chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
        stages = chain(options, vocabulary, n_ctx)
        for stage in stages:
            C.llama_sampler_chain_add(self._chain, stage)
        self.history = _history(options, n_ctx)
        bias = _biases(options, vocabulary)
        plain = len(stages) == 1 + bool(bias) and set(bias.values()) <= {_FORBIDDEN}
        # What a chain may not pick that does nothing but to pick the likeliest token.
        self._forbidden = frozenset(bias) if _is_greedy(options) and plain else None

    def prime(self, prompt: Sequence[int]) -> None:
        """Lets penalties know the end of the prompt."""
        for token in prompt[len(prompt) - min(self.history, len(prompt)) :]:
            if token >= 0:  # what images became is no text
                self.accept(token)

    def accept(self, token: int) -> None:
        """Lets penalties know a token that came about otherwise."""
        C.llama_sampler_accept(self._chain, token)

    def choose(self, address: int, count: int) -> int:
        """One of `count` candidates (`llama_token_data` at `address`), accepted by nobody yet."""
        candidates = C.llama_token_data_array(
            data=cast(address, C.llama_token_data_p), size=count, selected=-1, sorted=False
        )
        C.llama_sampler_apply(self._chain, byref(candidates))
        return int(candidates.data[candidates.selected].id)

    def pick(self, context: Context, index: int) -> int:
        """The next token, from the logits at `index` of the last batch."""
        if self._forbidden is not None:
            token = context.likeliest(index)
            if token >= 0 and token not in self._forbidden:
                return token
        return int(C.llama_sampler_sample(self._chain, context.pointer, index))

    complete = False  # no constraint ends this answer
    unfinished = False  # and none wants more of it

    def follow(self, room: int) -> list[int]:
        """Tokens that must come next: none, where nothing constrains the answer."""
        return []

    def free(self) -> None:
        C.llama_sampler_free(self._chain)


def chain(options: Options, vocabulary: Vocabulary, n_ctx: int) -> list[Any]:
    """llama.cpp samplers in the order in which they apply; those that do nothing are left out."""
    stages = _bias(options, vocabulary) + _penalties(options, vocabulary, n_ctx)
    seed = seed_of(options)
    if _is_greedy(options):
        return [*stages, C.llama_sampler_init_greedy()]
    if options.mirostat:
        return [
            *stages,
            C.llama_sampler_init_temp(_temperature(options)),
            _mirostat(options, vocabulary, seed),
        ]
    return [
        *stages,
        *_cuts(options, seed),
        C.llama_sampler_init_temp(_temperature(options)),
        C.llama_sampler_init_dist(seed),
    ]


def seed_of(options: Options) -> int:
    """The seed as 32 bits; a fresh one for "random" (negative)."""
    if options.seed is None or options.seed < 0:
        return int.from_bytes(os.urandom(4)) & 0x7FFFFFFF
    return options.seed % _RANDOM_SEED


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _temperature(options: Options) -> float:
    return _or(options.temperature, 0.8)


def _is_greedy(options: Options) -> bool:
    return _temperature(options) <= 0


def _biases(options: Options, vocabulary: Vocabulary) -> dict[int, float]:
    """What is added to the logits of which tokens."""
    bias = dict(options.logit_bias or {})
    for token in bias:
        if not 0 <= token < vocabulary.size:
            raise LlamaError("bad_option", f"logit_bias names token {token}; there is none")
    if options.ignore_eos:
        bias |= dict.fromkeys(vocabulary.all_ends(), _FORBIDDEN)
    return bias


def _bias(options: Options, vocabulary: Vocabulary) -> list[Any]:
    bias = _biases(options, vocabulary)
    if not bias:
        return []
    rows = (C.llama_logit_bias * len(bias))(*bias.items())
    return [C.llama_sampler_init_logit_bias(vocabulary.size, len(bias), rows)]


def _window(last_n: int | None, n_ctx: int) -> int:
    """How many tokens a penalty looks back; negative means the whole context."""
    value = 64 if last_n is None else last_n
    return n_ctx if value < 0 else value


def _history(options: Options, n_ctx: int) -> int:
    dry = _window(options.dry_penalty_last_n, n_ctx) if options.dry_multiplier else 0
    return max(_window(options.repeat_last_n, n_ctx), dry)


def _penalties(options: Options, vocabulary: Vocabulary, n_ctx: int) -> list[Any]:
    stages = []
    repeat = _or(options.repeat_penalty, 1.0)
    frequency, presence = _or(options.frequency_penalty, 0.0), _or(options.presence_penalty, 0.0)
    window = _window(options.repeat_last_n, n_ctx)
    if window and (repeat, frequency, presence) != (1.0, 0.0, 0.0):
        stages.append(
            C.llama_sampler_init_penalties(vocabulary.size, window, repeat, frequency, presence)
        )
    if options.dry_multiplier:
        stages.append(
            C.llama_sampler_init_dry(
                vocabulary.pointer,
                options.dry_multiplier,
                _or(options.dry_base, 1.75),
                2 if options.dry_allowed_length is None else options.dry_allowed_length,
                _window(options.dry_penalty_last_n, n_ctx),
                (c_char_p * len(DRY_BREAKERS))(*DRY_BREAKERS),
                len(DRY_BREAKERS),
            )
        )
    return stages


def _cuts(options: Options, seed: int) -> list[Any]:
    """The samplers that drop unlikely tokens, from the cheapest on."""
    stages = []
    top_k = 40 if options.top_k is None else options.top_k
    if top_k > 0:
        stages.append(C.llama_sampler_init_top_k(top_k))
    cuts: tuple[tuple[float, Callable[[float, int], Any]], ...] = (
        (_or(options.typical_p, 1.0), C.llama_sampler_init_typical),
        (_or(options.top_p, 0.9), C.llama_sampler_init_top_p),
    )
    stages += [make(p, _MIN_KEEP) for p, make in cuts if p < 1.0]
    if options.min_p:
        stages.append(C.llama_sampler_init_min_p(options.min_p, _MIN_KEEP))
    if options.xtc_probability:
        threshold = _or(options.xtc_threshold, 0.1)
        stages.append(C.llama_sampler_init_xtc(options.xtc_probability, threshold, _MIN_KEEP, seed))
    return stages


def _mirostat(options: Options, vocabulary: Vocabulary, seed: int) -> Any:
    tau, eta = _or(options.mirostat_tau, 5.0), _or(options.mirostat_eta, 0.1)
    if options.mirostat == 1:
        return C.llama_sampler_init_mirostat(vocabulary.size, seed, tau, eta, _MIROSTAT_CANDIDATES)
    return C.llama_sampler_init_mirostat_v2(seed, tau, eta)
