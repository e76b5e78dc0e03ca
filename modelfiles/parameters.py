"""Every option of loading, sampling and stopping: its type, default and range, in one table.

The names are the fields of `qm.daemon.runner.wire.Options`. Modelfiles write values as text
(`parse_texts`), requests as JSON (`check`); both come out of here checked, or as an OptionError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from qm.store.errors import InvalidRequest

Value: TypeAlias = int | float | bool | str | tuple[str, ...] | dict[int, float]

INT32_MAX = 2**31 - 1
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


class OptionError(InvalidRequest):
    """An option has a wrong type or is out of its range; `option` is its name."""

    code = "invalid_option"

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f'option "{option}" {reason}')
        self.option = self.field = option


class Applies(StrEnum):
    """When an option matters: a `LOAD` option may need the model loaded anew."""

    LOAD = "load"
    SAMPLE = "sample"
    STOP = "stop"


class Kind(StrEnum):
    """The type of an option's value, in the words of error messages."""

    INTEGER = "of type integer"
    FLOAT = "of type float32"
    BOOLEAN = "of type boolean"
    STRING = "of type string"
    STRINGS = "of an array of strings"
    BIASES = "an object of token ids to numbers"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option. A default of None means that qm decides, from the model and the machine."""

    name: str
    type: Kind
    applies: Applies
    default: Value | None
    minimum: float | None
    maximum: float | None
    doc: str
    choices: tuple[str, ...] = ()


def _whole(  # noqa: PLR0917 (a row of the table below, in the order of its columns)
    name: str, applies: Applies, default: int | None, minimum: int, maximum: int, doc: str
) -> Parameter:
    return Parameter(name, Kind.INTEGER, applies, default, minimum, maximum, doc)


def _real(name: str, default: float, minimum: float, maximum: float, doc: str) -> Parameter:
    return Parameter(name, Kind.FLOAT, Applies.SAMPLE, default, minimum, maximum, doc)


def _table() -> tuple[Parameter, ...]:
    load, sample, stop = Applies.LOAD, Applies.SAMPLE, Applies.STOP
    return (
        _whole("num_predict", stop, -1, -2, INT32_MAX, "tokens to generate; -1: until the end"),
        _whole("num_keep", stop, 4, -1, INT32_MAX, "first tokens that a context shift keeps"),
        _whole("seed", sample, -1, -(2**63), 2**63 - 1, "same seed, same answer; -1: random"),
        _real("temperature", 0.8, 0, 100, "0 always takes the likeliest token"),
        _whole("top_k", sample, 40, -1, INT32_MAX, "choose among the k likeliest; 0: all"),
        _real("top_p", 0.9, 0, 1, "choose among the likeliest that reach this probability"),
        _real("min_p", 0.0, 0, 1, "drop tokens below this share of the likeliest one"),
        _real("typical_p", 1.0, 0, 1, "locally typical sampling; 1: off"),
        _whole("repeat_last_n", sample, 64, 0, 2**20, "tokens that penalties look back on"),
        _real("repeat_penalty", 1.0, 0.01, 100, "above 1 discourages repetition"),
        _real("presence_penalty", 0.0, -100, 100, "for tokens that occurred at all"),
        _real("frequency_penalty", 0.0, -100, 100, "for tokens by how often they occurred"),
        _whole("mirostat", sample, 0, 0, 2, "perplexity control: 0 off, or version 1 or 2"),
        _real("mirostat_tau", 5.0, 0, 100, "Mirostat's target surprise"),
        _real("mirostat_eta", 0.1, 0, 1, "Mirostat's learning rate"),
        _real("dry_multiplier", 0.0, 0, 100, "penalty of repeated sequences (DRY); 0: off"),
        _real("dry_base", 1.75, 1, 100, "how fast DRY's penalty grows"),
        _whole("dry_allowed_length", sample, 2, 0, 2**20, "repeats up to here are free of DRY"),
        _whole("dry_penalty_last_n", sample, -1, -1, 2**20, "tokens DRY sees; -1: the context"),
        _real("xtc_probability", 0.0, 0, 1, "how often the top choices are excluded; 0: never"),
        _real("xtc_threshold", 0.1, 0, 1, "what counts as a top choice to exclude"),
        Parameter("logit_bias", Kind.BIASES, sample, {}, -100, 100, "added to tokens' logits"),
        Parameter("ignore_eos", Kind.BOOLEAN, stop, False, None, None, "go on past the end"),
        Parameter("stop", Kind.STRINGS, stop, (), None, None, "texts that end the answer"),
        Parameter("grammar", Kind.STRING, sample, None, None, None, "GBNF that answers follow"),
        _whole("num_ctx", load, None, 0, INT32_MAX, "tokens of context; 0: qm decides"),
        _whole("num_batch", load, None, 1, 2**16, "prompt tokens evaluated at once"),
        _whole("num_gpu", load, -1, -1, INT32_MAX, "layers on GPUs; -1: as many as fit"),
        _whole("main_gpu", load, 0, 0, 255, "the GPU for what is not split"),
        _whole("num_thread", load, 0, 0, 1024, "CPU threads; 0: one a physical core"),
        _whole("num_parallel", load, None, 1, 256, "requests answered at once"),
        Parameter("kv_type", Kind.STRING, load, None, None, None, "type of KV cache", KV_TYPES),
        Parameter("use_mmap", Kind.BOOLEAN, load, None, None, None, "map weights, don't read"),
        _whole("draft_num_predict", load, 4, 0, 64, "tokens drafted at a time"),
    )


PARAMETERS: dict[str, Parameter] = {each.name: each for each in _table()}

# Accepted and ignored with a warning: llama.cpp no longer has what they set.
RETIRED = frozenset(
    {
        "embedding_only",
        "f16_kv",
        "logits_all",
        "low_vram",
        "numa",
        "penalize_newline",
        "tfs_z",
        "use_mlock",
        "vocab_only",
    }
)


def check(name: str, value: object) -> Value:
    """The value of a known option from JSON: floats truncate to integers, one stop may stand alone.

    Raises OptionError.
    """
    parameter = PARAMETERS[name]
    checked = _TYPES[parameter.type](parameter, value)
    if parameter.choices and checked not in parameter.choices:
        raise OptionError(name, f"must be one of {', '.join(parameter.choices)}")
    return checked


def check_all(values: Mapping[str, object]) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The known options, checked, and the names of the others. A null counts as not given."""
    known = {
        name: check(name, value)
        for name, value in values.items()
        if name in PARAMETERS and value is not None
    }
    return known, tuple(name for name in values if name not in PARAMETERS)


def parse_texts(name: str, values: Sequence[str]) -> Value:
    """The value of a known option from a Modelfile's texts: lists gather all, others the last.

    Raises OptionError.
    """
    match PARAMETERS[name].type:
        case Kind.STRINGS:
            return check(name, list(values))
        case Kind.BIASES:
            return check(name, dict(_bias(name, text) for text in values))
        case Kind.STRING:
            return check(name, values[-1])
        case kind:
            return check(name, _scalar(name, kind, values[-1].strip()))


def to_texts(value: Value) -> tuple[str, ...]:
    """The texts that `parse_texts` reads back as this value."""
    match value:
        case tuple():
            return value
        case dict():
            return tuple(f"{token}={_number_text(bias)}" for token, bias in value.items())
        case bool():
            return ("true" if value else "false",)
        case float():
            return (_number_text(value),)
        case _:
            return (str(value),)


def to_json(values: Mapping[str, Value]) -> dict[str, object]:
    """The values as a JSON document holds them."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


def complete(values: Mapping[str, Value]) -> dict[str, Value]:
    """The values with every default filled in; only what qm decides itself stays absent."""
    defaults = {
        name: parameter.default
        for name, parameter in PARAMETERS.items()
        if parameter.default is not None
    }
    return {**defaults, **values}


def _integer(parameter: Parameter, value: object) -> int:
    number = _finite(parameter, value)
    return int(_within(parameter, number if isinstance(number, int) else math.trunc(number)))


def _float(parameter: Parameter, value: object) -> float:
    return float(_within(parameter, _finite(parameter, value)))


def _finite(parameter: Parameter, value: object) -> int | float:
    infinite = isinstance(value, float) and not math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or infinite:
        raise OptionError(parameter.name, f"must be {parameter.type}")
    return value


def _within(parameter: Parameter, number: float) -> float:
    low, high = parameter.minimum, parameter.maximum
    assert low is not None, parameter.name
    assert high is not None, parameter.name
    if not low <= number <= high:
        raise OptionError(parameter.name, f"must be between {low} and {high}, not {number}")
    return number


def _boolean(parameter: Parameter, value: object) -> bool:
    if not isinstance(value, bool):
        raise OptionError(parameter.name, f"must be {parameter.type}")
    return value


def _string(parameter: Parameter, value: object) -> str:
    if not isinstance(value, str):
        raise OptionError(parameter.name, f"must be {parameter.type}")
    return value


def _strings(parameter: Parameter, value: object) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple):
        raise OptionError(parameter.name, f"must be {parameter.type}")
    texts = tuple(_string(parameter, each) for each in listed)
    return tuple(text for text in texts if text)  # an empty stop would end every answer at once


def _biases(parameter: Parameter, value: object) -> dict[int, float]:
    if not isinstance(value, dict):
        raise OptionError(parameter.name, f"must be {parameter.type}")
    return {_token(parameter, key): _float(parameter, bias) for key, bias in value.items()}


def _token(parameter: Parameter, key: object) -> int:
    digits = str(key)
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9:
        raise OptionError(parameter.name, f"must be {parameter.type}")
    return int(digits)


_TYPES: dict[Kind, Callable[[Parameter, object], Value]] = {
    Kind.INTEGER: _integer,
    Kind.FLOAT: _float,
    Kind.BOOLEAN: _boolean,
    Kind.STRING: _string,
    Kind.STRINGS: _strings,
    Kind.BIASES: _biases,
}
_TRUE = ("1", "t", "T", "true", "True", "TRUE")
_FALSE = ("0", "f", "F", "false", "False", "FALSE")


def _scalar(name: str, kind: Kind, text: str) -> int | float | bool:
    if kind is Kind.BOOLEAN and text in (*_TRUE, *_FALSE):
        return text in _TRUE
    try:
        if kind is Kind.INTEGER:
            return int(text)
        if kind is Kind.FLOAT:
            return float(text)
    except ValueError:
        pass  # told below, as for every other type
    raise OptionError(name, f"must be {kind}, not '{text}'")


def _bias(name: str, text: str) -> tuple[str, float]:
    token, _, bias = text.partition("=")
    return token.strip(), float(_scalar(name, Kind.FLOAT, bias.strip()))


def _number_text(number: float) -> str:
    """Shortest decimal that reads back the same, a whole number without its point."""
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
