"""A model's vocabulary: text to tokens and back, and what tokens are for."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from qm.modelfiles.native import C

from .llama_error import LlamaError


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
        self._all_ends: list[int] | None = None

    @property
    def has_fim(self) -> bool:
        return min(self.fim_pre, self.fim_suf, self.fim_mid) >= 0

    @cached_property
    def longest_bytes(self) -> int:
        """How many bytes of text the longest token stands for."""
        return max((len(self._piece(token, special=True)) for token in range(self.size)), default=1)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of `text`."""
        data = text.encode("utf-8", errors="replace")
        room, most = len(data) // 2 + 16, 3 * len(data) + 16  # a space may be three bytes inside
        while True:
            tokens = (ctypes.c_int32 * room)()
            count = C.llama_tokenize(
                self.pointer, data, len(data), tokens, room, add_special, parse_special
            )
            if count >= 0:
                return tokens[:count]
            if room >= most:
                raise LlamaError("bad_option", "the text has too many tokens to count")
            room = min(-count, most)

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
        """Every token that ends generation; looked for once."""
        if self._all_ends is None:
            known = self.eos >= 0 and self.ends(self.eos)
            self._all_ends = self._sifted_ends() if known else self._asked_ends()
        return self._all_ends

    def _asked_ends(self) -> list[int]:
        is_end, pointer = C.llama_vocab_is_eog, self.pointer
        return [token for token in range(self.size) if is_end(pointer, token)]

    def _sifted_ends(self) -> list[int]:
        """The same where there is one: what is left of equally likely tokens by the sampler that
        prefers ends. A quarter of a million calls take a tenth of a second, it a third of that.
        """
        rows = (C.llama_token_data * self.size)()
        memoryview(rows).cast("B").cast("i")[:: len(C.llama_token_data._fields_)] = memoryview(
            array("i", range(self.size))
        )
        kept = C.llama_token_data_array(data=rows, size=self.size, selected=-1, sorted=False)
        sampler = C.llama_sampler_init_infill(self.pointer)
        C.llama_sampler_apply(sampler, ctypes.byref(kept))
        C.llama_sampler_free(sampler)
        return sorted(kept.data[at].id for at in range(kept.size))
