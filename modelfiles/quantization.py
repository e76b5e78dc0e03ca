"""The types that a model can be quantised to, and what `QUANTIZE` and `TENSOR_TYPE` may say.

Light: the daemon checks requests with it, and nothing here asks llama.cpp.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from qm.store.errors import InvalidRequest
from qm.store.ggml import FILE_TYPE_NAMES, TENSOR_TYPES

COPY = "COPY"
AUTO = "AUTO"

_NOT_QUANTISABLE = {"NVFP4"}  # llama.cpp runs it but has no way to make it
_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}
FILE_TYPES = {
    name: number for number, name in FILE_TYPE_NAMES.items() if name not in _NOT_QUANTISABLE
} | {COPY: 0}
"""What QUANTIZE takes: the name, and llama.cpp's number for it."""

# Tensor types that only hold intermediate results or integers.
_NO_WEIGHTS = {"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64", "NVFP4"}
TENSOR_TYPE_NUMBERS = {
    kind.name: number for number, kind in TENSOR_TYPES.items() if kind.name not in _NO_WEIGHTS
}

# llama.cpp refuses these without an importance matrix; it would make garbage of most tensors.
_NEEDS_IMATRIX = frozenset(
    {
        *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS"),
        "Q2_K_S",
    }
)
# These are made without looking at importances, so computing them would be for nothing.
_IGNORES_IMATRIX = frozenset({"F32", "F16", "BF16", COPY, "Q8_0", "TQ1_0", "TQ2_0", "MXFP4_MOE"})
FULL_PRECISION = frozenset({"F32", "F16", "BF16"})

_SWITCHES = ("pure", "requantize")
_VALUES = ("output", "embedding", "threads")
_MAX_THREADS = 1024
_MAX_PATTERN = 256


class UnknownType(InvalidRequest):
    """A type that nothing can be quantised to; suggests what may have been meant."""

    code = "unknown_quantization"

    def __init__(self, text: str, known: tuple[str, ...]) -> None:
        near = get_close_matches(text.upper(), known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
        super().__init__(f"unknown quantization type '{text[:60]}'; {hint}")


class InvalidQuantize(InvalidRequest):
    """QUANTIZE or TENSOR_TYPE says something that can't be understood."""

    code = "invalid_quantize"


@dataclass(frozen=True, slots=True)
class Quantize:
    """What `QUANTIZE` says. Tensor types are names, empty where nothing was said.

    `threads` changes how long it takes, never what comes out; 0 takes them all. The type AUTO
    stands for one that is chosen once the sizes are known.
    """

    type: str
    pure: bool = False
    requantize: bool = False
    output: str = ""
    embedding: str = ""
    threads: int = 0

    @property
    def number(self) -> int:
        """llama.cpp's number of the file type."""
        return FILE_TYPES[self.type]

    @property
    def needs_imatrix(self) -> bool:
        return self.type in _NEEDS_IMATRIX

    @property
    def profits_from_imatrix(self) -> bool:
        return self.type not in _IGNORES_IMATRIX


def parse_quantize(text: str) -> Quantize:
    """`TYPE|auto [pure] [requantize] [output=TYPE] [embedding=TYPE] [threads=N]`, in any case.

    Raises UnknownType or InvalidQuantize.
    """
    kind, *options = text.split()
    values: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if (name in _SWITCHES) == bool(equals) or name not in (*_SWITCHES, *_VALUES):
            known = f"{', '.join(_SWITCHES)}, {'=…, '.join(_VALUES)}=…"
            raise InvalidQuantize(f"QUANTIZE has no option '{option[:60]}'; it knows {known}")
        values[name] = value
    return Quantize(
        type=AUTO if kind.upper() == AUTO else file_type(kind),
        pure="pure" in values,
        requantize="requantize" in values,
        output=tensor_type_name(values["output"]) if "output" in values else "",
        embedding=tensor_type_name(values["embedding"]) if "embedding" in values else "",
        threads=_threads(values.get("threads", "0")),
    )


def file_type(text: str) -> str:
    """The name of the file type that `text` means. Raises UnknownType."""
    name = _ALIASES.get(text.upper(), text.upper())
    if name not in FILE_TYPES:
        raise UnknownType(text, (*FILE_TYPES, AUTO))
    return name


def tensor_type_name(text: str) -> str:
    """The name of the tensor type that `text` means. Raises UnknownType."""
    if text.upper() not in TENSOR_TYPE_NUMBERS:
        raise UnknownType(text, tuple(TENSOR_TYPE_NUMBERS))
    return text.upper()


def check_pattern(pattern: str) -> None:
    """Raises InvalidQuantize for what is no regular expression of sensible length."""
    if len(pattern) > _MAX_PATTERN:
        raise InvalidQuantize(f"a TENSOR_TYPE pattern is longer than {_MAX_PATTERN} characters")
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidQuantize(
            f"the TENSOR_TYPE pattern '{pattern}' is no regular expression: {error}"
        ) from error


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_THREADS:
        raise InvalidQuantize(f"threads must be a number up to {_MAX_THREADS}, not '{text[:60]}'")
    return int(text)
