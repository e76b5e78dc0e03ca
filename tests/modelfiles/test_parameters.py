"""The one table of options: leniency as Ollama's clients expect, and no value out of range."""

from __future__ import annotations

import math
from typing import get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qm.daemon.runner.wire import Options
from qm.modelfiles.parameters import (
    PARAMETERS,
    RETIRED,
    Kind,
    OptionError,
    Value,
    check,
    check_all,
    complete,
    parse_texts,
    to_json,
    to_texts,
)

PYTHON_TYPES = {
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.BOOLEAN: bool,
    Kind.STRING: str,
    Kind.STRINGS: tuple[str, ...],
    Kind.BIASES: dict[int, float],
}
NUMBERS = [each for each in PARAMETERS.values() if each.type in (Kind.INTEGER, Kind.FLOAT)]


def test_the_table_has_exactly_the_options_that_the_runner_takes() -> None:
    """Same names, same types: a value that is checked here fits into the frame."""
    hints = get_type_hints(Options)
    assert set(PARAMETERS) == set(hints)
    for name, parameter in PARAMETERS.items():
        assert PYTHON_TYPES[parameter.type] in get_args(hints[name]), name


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=lambda each: each.name)
def test_every_default_passes_its_own_check(parameter: object) -> None:
    """And every option says what it is for."""
    known = PARAMETERS[parameter.name]  # type: ignore[attr-defined]  # ids need the object
    assert known.doc
    if known.default is not None:
        assert check(known.name, known.default) == known.default


@pytest.mark.parametrize("parameter", NUMBERS, ids=lambda each: each.name)
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, "1", True, [], {}, 10**30, 10**400]
)
def test_no_number_takes_nonsense(parameter: object, value: object) -> None:
    """The error names the option."""
    name = parameter.name  # type: ignore[attr-defined]  # ids need the object
    with pytest.raises(OptionError, match=f'option "{name}" must be') as caught:
        check(name, value)
    assert caught.value.status == 400
    assert caught.value.option == name


@pytest.mark.parametrize("parameter", NUMBERS, ids=lambda each: each.name)
def test_ranges_end_where_the_table_says(parameter: object) -> None:
    """Both ends are allowed, one step further is not."""
    known = PARAMETERS[parameter.name]  # type: ignore[attr-defined]  # ids need the object
    assert known.minimum is not None
    assert known.maximum is not None
    for end in (known.minimum, known.maximum):
        assert check(known.name, end) == end
    for beyond in (known.minimum - 1, known.maximum + 1):
        with pytest.raises(OptionError, match="must be between"):
            check(known.name, beyond)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("num_predict", 3.9, 3),
        ("num_predict", -1.5, -1),
        ("num_ctx", 0, 0),
        ("temperature", 0, 0.0),
        ("stop", "END", ("END",)),
        ("stop", ["a", "", "b"], ("a", "b")),
        ("stop", [], ()),
        ("logit_bias", {"5": 1, "7": -100}, {5: 1.0, 7: -100.0}),
        ("kv_type", "q8_0", "q8_0"),
        ("use_mmap", False, False),
        ("seed", 2**40, 2**40),
    ],
)
def test_json_values_are_read_leniently(name: str, value: object, expected: Value) -> None:
    """Floats truncate, one stop may stand alone, empty stops don't count."""
    checked = check(name, value)
    assert checked == expected
    assert type(checked) is type(expected)
    msgspec.convert({name: checked}, Options)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("temperature", "hot", 'option "temperature" must be of type float32'),
        ("num_predict", "3", 'option "num_predict" must be of type integer'),
        ("stop", [1], 'option "stop" must be of an array of strings'),
        ("stop", 1, 'option "stop" must be of an array of strings'),
        ("use_mmap", 1, 'option "use_mmap" must be of type boolean'),
        ("repeat_penalty", 0, 'option "repeat_penalty" must be between 0.01 and 100, not 0'),
        ("repeat_last_n", -1, 'option "repeat_last_n" must be between 0 and'),
        ("top_p", 1.01, 'option "top_p" must be between 0 and 1, not 1.01'),
        ("kv_type", "q3_k", 'option "kv_type" must be one of f32, f16'),
        ("logit_bias", {"a": 1}, 'option "logit_bias" must be'),
        ("logit_bias", {"-1": 1}, 'option "logit_bias" must be'),
        ("logit_bias", {"1": 101}, 'option "logit_bias" must be between -100 and 100'),
        ("logit_bias", [1], 'option "logit_bias" must be'),
        ("logit_bias", {"٣": 1}, 'option "logit_bias" must be'),
    ],
)
def test_errors_say_what_the_option_wants(name: str, value: object, words: str) -> None:
    """In the words of Ollama where it has some."""
    with pytest.raises(OptionError) as caught:
        check(name, value)
    assert str(caught.value).startswith(words)


def test_unknown_options_are_told_and_nulls_left_out() -> None:
    """Editor plugins send options that nobody knows; names count in their case."""
    values = {"temperature": None, "seed": 1, "foo": 1, "NUM_PREDICT": 1}
    assert check_all(values) == ({"seed": 1}, ("foo", "NUM_PREDICT"))


@pytest.mark.parametrize(
    ("name", "texts", "expected"),
    [
        ("num_ctx", ["2048", " 4096 "], 4096),
        ("temperature", ["0.7"], 0.7),
        ("temperature", ["1"], 1.0),
        ("use_mmap", ["false"], False),
        ("use_mmap", ["T"], True),
        ("stop", ["a", "b"], ("a", "b")),
        ("kv_type", ["q4_0"], "q4_0"),
        ("logit_bias", ["5=-1.5", "6 = 2"], {5: -1.5, 6: 2.0}),
    ],
)
def test_modelfile_texts_are_parsed(name: str, texts: list[str], expected: Value) -> None:
    """Lists gather all values, others take the last."""
    assert parse_texts(name, texts) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("num_ctx", "4096.0"),
        ("num_ctx", "many"),
        ("num_ctx", "-1"),
        ("temperature", "hot"),
        ("temperature", "nan"),
        ("use_mmap", "yes"),
        ("kv_type", "int8"),
        ("logit_bias", "5"),
        ("seed", "9" * 5000),
    ],
)
def test_a_modelfile_text_of_the_wrong_type_is_refused(name: str, text: str) -> None:
    """As strictly as JSON."""
    with pytest.raises(OptionError, match=f'option "{name}" must be'):
        parse_texts(name, [text])


def test_complete_fills_in_what_does_not_depend_on_the_machine() -> None:
    """A value that was given stays; qm's own decisions stay open."""
    full = complete({"temperature": 0.1})
    assert full["temperature"] == 0.1
    assert full["top_k"] == 40
    assert "num_ctx" not in full
    assert "kv_type" not in full
    msgspec.convert(full, Options)


def test_retired_names_are_no_options() -> None:
    """They warn in a Modelfile and do nothing."""
    assert RETIRED.isdisjoint(PARAMETERS)
    assert {"low_vram", "use_mlock", "penalize_newline"} <= RETIRED


@given(st.sampled_from(NUMBERS), st.data())
def test_texts_read_back_the_same(parameter: object, data: st.DataObject) -> None:
    """What `qm show` prints builds the same parameters again."""
    known = PARAMETERS[parameter.name]  # type: ignore[attr-defined]  # a row of the table
    assert known.minimum is not None
    assert known.maximum is not None
    number = data.draw(
        st.integers(int(known.minimum), int(known.maximum))
        if known.type is Kind.INTEGER
        else st.floats(known.minimum, known.maximum)
    )
    value = check(known.name, number)
    assert parse_texts(known.name, to_texts(value)) == value


def test_lists_and_objects_read_back_the_same() -> None:
    """Also the types that take several lines or none of a number's forms."""
    values: dict[str, Value] = {
        "stop": ("a b", '"'),
        "logit_bias": {5: 1.5, 7: -2.0},
        "use_mmap": True,
        "kv_type": "f16",
    }
    for name, value in values.items():
        assert parse_texts(name, to_texts(value)) == value
    assert to_json({"stop": ("a",), "seed": 1}) == {"stop": ["a"], "seed": 1}
