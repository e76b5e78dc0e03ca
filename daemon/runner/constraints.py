"""Compiles what an answer must look like, by JSON Schema or GBNF, against a vocabulary.

llguidance does the work: a compiled matcher knows, at every point of an answer, which tokens may
come next. Compiled ones are kept, so that the second request with a schema finds it ready.
"""

from __future__ import annotations

import ctypes
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from qm.modelfiles.native import C

from . import gbnf, schema_limits
from .candidates import Candidates
from .llama_error import LlamaError
from .schema_closing import closed
from .schema_numbers import bounded
from .vocabulary import Vocabulary
from .wire import Generate

if TYPE_CHECKING:
    # Costs 40 ms and a tokenizer's memory: a runner without constraints does without.
    from llguidance import LLMatcher, LLTokenizer

KEPT_MATCHERS: Final = 32
# Between values: one blank, or a line break with its indentation. Models that may write any white
# space sometimes write nothing else.
_WHITE_SPACE: Final = r" |\n{1,2}[ \t]{0,20}"
_NOT_TEXT: Final = b"\xff"  # how llguidance marks tokens that stand for no text


@dataclass(frozen=True, slots=True)
class Constraint:
    """The text of a constraint; `code` is what `Failed` says when it can't be enforced."""

    code: str
    text: str

    def refusal(self, reason: str) -> LlamaError:
        shown = " ".join(reason.replace("<non-verbose/>", "").split())[:400]
        what = "format" if self.code == "bad_schema" else "grammar"
        return LlamaError(self.code, f"the {what} can't be enforced: {shown}")


class Constraints:
    """The compiled constraints of one model; safe to ask from several threads."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._kept: OrderedDict[Constraint, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, request: Generate) -> bool:
        """Whether `matcher` would have nothing to compile."""
        constraint = _constraint(request)
        return constraint is None or constraint in self._kept

    def matcher(self, request: Generate) -> LLMatcher | None:
        """What `request` constrains its answer to, at the beginning. Raises LlamaError."""
        constraint = _constraint(request)
        if constraint is None:
            return None
        with self._lock:
            if constraint not in self._kept:
                self._kept[constraint] = self._compiled(constraint)
                if len(self._kept) > KEPT_MATCHERS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(constraint)
            return self._kept[constraint].deep_copy()

    @cached_property
    def candidates(self) -> Candidates:
        """Room for choosing one token; the engine chooses one after the other."""
        return Candidates(self._vocabulary.size)

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        return _tokenizer(self._vocabulary)

    def _compiled(self, constraint: Constraint) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits  # noqa: PLC0415

        limits = LLParserLimits(verbose_errors=False)
        grammar = _GRAMMARS[constraint.code](constraint)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise constraint.refusal(matcher.get_error())
        matcher.compute_bitmask()  # what only shows at the first token shows here
        if matcher.is_error():
            raise constraint.refusal("no text can satisfy it")
        return matcher


def _constraint(request: Generate) -> Constraint | None:
    if request.json_schema is not None:
        return Constraint("bad_schema", request.json_schema)
    if request.grammar is not None:
        return Constraint("bad_grammar", request.grammar)
    return None


def _schema_grammar(constraint: Constraint) -> str:
    from llguidance import LLMatcher  # noqa: PLC0415

    try:
        schema = bounded(schema_limits.checked(constraint.text))
    except schema_limits.SchemaError as error:
        raise constraint.refusal(str(error)) from error
    overrides: Any = {  # Any: the stub's TypedDict has optional values where we have plain ones
        "lenient": False,  # what can't be enforced is refused, also if the schema wants otherwise
        "coerce_one_of": False,
        "whitespace_flexible": True,
        "whitespace_pattern": _WHITE_SPACE,
    }
    try:
        return LLMatcher.grammar_from_json_schema(json.dumps(closed(schema)), overrides=overrides)
    except ValueError as error:
        raise constraint.refusal(str(error)) from error


def _gbnf_grammar(constraint: Constraint) -> str:
    from llguidance import LLMatcher  # noqa: PLC0415

    try:
        return LLMatcher.grammar_from_lark(gbnf.to_lark(constraint.text))
    except gbnf.GrammarError as error:
        raise constraint.refusal(str(error)) from error


_GRAMMARS: Final = {"bad_schema": _schema_grammar, "bad_grammar": _gbnf_grammar}


def _tokenizer(vocabulary: Vocabulary) -> LLTokenizer:
    """llguidance's view of the vocabulary. Takes up to a second for a large one."""
    from llguidance import LLTokenizer  # noqa: PLC0415

    ends = vocabulary.all_ends()
    if not ends:
        raise LlamaError("unsupported", "this model has no token that ends an answer")
    make: Any = LLTokenizer  # Any: its stub does not list this constructor
    return make.from_llamacpp(  # type: ignore[no-any-return]
        tokens=[
            _NOT_TEXT + spelling if control else spelling
            for spelling, control in vocabulary.spellings()
        ],
        vocab_ptr=_address(vocabulary.pointer),
        tokenize_fptr=_address(C._lib.llama_tokenize),
        eos_token=ends,
        slices=LLTokenizer.json_slices(),
    )


def _address(pointer: Any) -> int | None:  # Any: what ctypes calls a pointer
    return ctypes.cast(pointer, ctypes.c_void_p).value
