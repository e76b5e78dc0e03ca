"""The Modelfile grammar, as Ollama's own parser reads it, and what we say about mistakes."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from qm.modelfiles.parser import (
    KEYWORDS,
    ROLES,
    Instruction,
    Modelfile,
    ModelfileError,
    parse,
    quote,
    to_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def one(text: str) -> tuple[str, str, str]:
    """The only instruction of a text, without its line."""
    (instruction,) = parse(text).instructions
    return instruction.keyword, instruction.name, instruction.argument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM llama", ("FROM", "", "llama")),
        ("from\tllama  ", ("FROM", "", "llama")),
        ("   From ./a b.gguf\n", ("FROM", "", "./a b.gguf")),
        ('SYSTEM "one line"', ("SYSTEM", "", "one line")),
        ('SYSTEM "two\nlines"', ("SYSTEM", "", "two\nlines")),
        ('SYSTEM """\nthree\n\nlines\n"""', ("SYSTEM", "", "\nthree\n\nlines\n")),
        ('SYSTEM """a "quoted" b"""  ', ("SYSTEM", "", 'a "quoted" b')),
        ('SYSTEM """"a""""', ("SYSTEM", "", '"a"')),
        ('SYSTEM "a" b "c"', ("SYSTEM", "", 'a" b "c')),
        ('SYSTEM "Hi" she said\nand left"', ("SYSTEM", "", 'Hi" she said\nand left')),
        ("SYSTEM it's 'so'", ("SYSTEM", "", "it's 'so'")),
        (r"SYSTEM a\nb", ("SYSTEM", "", r"a\nb")),
        ("SYSTEM a # b", ("SYSTEM", "", "a # b")),
        ('SYSTEM ""', ("SYSTEM", "", "")),
        ("SYSTEM ", ("SYSTEM", "", "")),
        ("SYSTEM a\u00a0", ("SYSTEM", "", "a")),
        ("SYSTEM a\x1f", ("SYSTEM", "", "a\x1f")),
        ("SYSTEM \u2028", ("SYSTEM", "", "")),
        ("PARAMETER num_ctx 4096", ("PARAMETER", "num_ctx", "4096")),
        ('parameter  stop   "\n\n"', ("PARAMETER", "stop", "\n\n")),
        ('PARAMETER stop "<|im_end|>"', ("PARAMETER", "stop", "<|im_end|>")),
        ("MESSAGE user hi there", ("MESSAGE", "user", "hi there")),
        ('MESSAGE assistant """a\nb"""', ("MESSAGE", "assistant", "a\nb")),
        ("TENSOR_TYPE blk.*=Q8_0", ("TENSOR_TYPE", "", "blk.*=Q8_0")),
        ("EVALUATE", ("EVALUATE", "", "")),
    ],
)
def test_reads_an_instruction(text: str, expected: tuple[str, str, str]) -> None:
    """Quotations span lines until a line ends with their mark; nothing is escaped."""
    assert one(text) == expected


def test_comments_stand_only_where_an_instruction_could_start() -> None:
    """A `#` inside a value belongs to it."""
    text = '# a\n  # b\n\nFROM a\n#SYSTEM x\nSYSTEM """\n# kept\n"""\n# end'
    parsed = parse(text)
    assert [each.keyword for each in parsed.instructions] == ["FROM", "SYSTEM"]
    assert parsed.of("SYSTEM")[0].argument == "\n# kept\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_ends_a_line(end: str) -> None:
    """Files of any system parse the same, and lines are counted right."""
    parsed = parse(end.join(["FROM a", "", "SYSTEM b", "PARAMETER seed 1"]))
    assert [each.line for each in parsed.instructions] == [1, 3, 4]
    assert [each.argument for each in parsed.instructions] == ["a", "b", "1"]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    ],
)
def test_reads_bytes_with_any_byte_order_mark(encode: Callable[[str], bytes]) -> None:
    """Windows editors write them."""
    assert parse(encode("FROM ä\n")).of("FROM")[0].argument == "ä"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("FROM a\nFORM b", 2, "unknown instruction 'FORM'"),
        ("FROM a\n\n???", 3, "unknown instruction '???'"),
        ("\x1f", 1, "unknown instruction"),
        ("FROM: a", 1, "unknown instruction 'FROM:'"),
        ("FROM", 1, "FROM needs a value"),
        ("FROM a\nADAPTER  \n", 2, "ADAPTER needs a value"),
        ("FROM a\nSYSTEM\nhello", 2, "SYSTEM needs a value"),
        ("FROM a\nPARAMETER", 2, "PARAMETER needs a name and a value"),
        ("FROM a\nPARAMETER num_ctx", 2, "PARAMETER needs a name and a value"),
        ("FROM a\nPARAMETER num-ctx 1", 2, "PARAMETER needs a name and a value"),
        ("FROM a\nMESSAGE user", 2, "MESSAGE needs a role and a text"),
        ("FROM a\nMESSAGE User hi", 2, "must be one of system, user, assistant"),
        ("FROM a\nMESSAGE wizard hi", 2, "must be one of system, user, assistant"),
        ('FROM a\nSYSTEM "open\n\nFROM b', 2, "no line ends with"),
        ('FROM a\nSYSTEM """open"\n', 2, 'no line ends with """'),
        ('SYSTEM """""', 1, 'no line ends with """'),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, line: int, words: str) -> None:
    """The line is where the instruction starts, not where the file ends."""
    with pytest.raises(ModelfileError, match=f"^line {line}: ") as caught:
        parse(text)
    assert words in str(caught.value)
    assert caught.value.line == line
    assert caught.value.status == 400


def test_bytes_that_are_no_text_are_refused_with_the_line() -> None:
    """A GGUF given as Modelfile, for example."""
    with pytest.raises(ModelfileError, match="line 2: this is not text"):
        parse(b"FROM a\nSYSTEM \xff\n")


def test_a_long_quotation_parses_in_linear_time() -> None:
    """A hundred thousand lines are no work; quadratic time would take minutes here."""
    body = "line\n" * 200_000
    assert one(f'SYSTEM """{body}"""') == ("SYSTEM", "", body)


def test_with_from_replaces_every_from_and_nothing_else() -> None:
    """What `qm create --from` does."""
    parsed = parse("SYSTEM s\nFROM a\nFROM b\n").with_from("c")
    assert [(each.keyword, each.argument) for each in parsed.instructions] == [
        ("FROM", "c"),
        ("SYSTEM", "s"),
    ]


def test_equal_instructions_on_other_lines_are_equal() -> None:
    """What a Modelfile says does not depend on its comments."""
    assert parse("FROM a") == parse("# c\n\nFROM a")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain text", "plain text"),
        ("", '""'),
        (" padded ", '" padded "'),
        ("two\nlines", '"two\nlines"'),
        ('"quoted"', '""quoted""'),
        ('a "b"\nc', '"""a "b"\nc"""'),
        ('"', '"""""""'),
    ],
)
def test_quotes_only_what_needs_it(value: str, written: str) -> None:
    """The lightest form that reads back the same."""
    assert one(f"SYSTEM {written}") == ("SYSTEM", "", value)
    assert (quote(value) or '""') == written


def test_a_text_that_no_quotation_holds_is_refused() -> None:
    """Its own lines would end every quotation."""
    with pytest.raises(ModelfileError, match="no quoting can hold this text"):
        quote('a\nb"""\nc')


values = st.text(
    st.one_of(st.sampled_from('" \n\r\t#ab\u2028\u00a0\x1f'), st.characters(codec="utf-8"))
)
plain = st.builds(
    Instruction,
    st.sampled_from([each for each in KEYWORDS if each not in ("PARAMETER", "MESSAGE")]),
    values.filter(bool),
)
messages = st.builds(
    lambda role, text: Instruction("MESSAGE", text, name=role), st.sampled_from(ROLES), values
)


@given(st.lists(st.one_of(plain, messages), max_size=5))
def test_what_is_printed_parses_back_equal(instructions: list[Instruction]) -> None:
    """For any text at all that the grammar can hold."""
    kept = [each for each in instructions if each.keyword != "EVALUATE"]
    modelfile = Modelfile(tuple(kept))
    try:
        text = to_text(modelfile)
    except ModelfileError:
        assume(False)
    assert parse(text) == modelfile


@given(st.text() | st.binary())
def test_any_input_parses_or_is_refused(data: str | bytes) -> None:
    """Nothing but a ModelfileError ever comes out."""
    try:
        parse(data)
    except ModelfileError:
        return
