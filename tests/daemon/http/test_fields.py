"""JSON is read as Go reads it, and errors name the field."""

from __future__ import annotations

import json

import pytest
from qm.daemon.http.fields import (
    MOST_VALUES,
    BadJson,
    Fields,
    TooManyValues,
    WrongType,
    decode,
)


def test_keys_match_in_any_case_and_the_last_duplicate_wins() -> None:
    """{"Model": …, "MODEL": …} means the second; clients were seen to send both cases."""
    fields = Fields(decode(b'{"Model":"a","stream":true,"MODEL":"b"}'))
    assert fields.text("model") == "b"
    assert fields.boolean("Stream", False) is True


def test_nested_documents_keep_their_keys() -> None:
    """A tool's schema or an options object is not ours to fold."""
    assert Fields(decode(b'{"Options":{"NUM_PREDICT":1}}')).document("options") == {
        "NUM_PREDICT": 1
    }


def test_null_counts_as_absent() -> None:
    fields = Fields(decode(b'{"a":null,"b":null,"c":null,"d":null,"e":null}'))
    assert fields.text("a", "x") == "x"
    assert fields.boolean("b", True) is True
    assert fields.integer("c", 3) == 3
    assert fields.objects("d") == []
    assert fields.document("e") == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "missing request body"),
        (b" \n\t ", "missing request body"),
        (b'{"model":"smol"', "unexpected EOF"),
        (b"{", "unexpected EOF"),
        (b'{"model":"sm', "unexpected EOF"),
        (b"{bad}", "invalid character 'b' looking for beginning of object key string"),
        (b'{"a":}', "invalid character '}' looking for beginning of value"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b":2}', "invalid character '\"' after a value"),
        (b'{"a":NaN}', "NaN is no JSON number"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":' + b"9" * 5000 + b"}", "too long"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_broken_json_is_explained(body: bytes, reason: str) -> None:
    """The words that Ollama's clients know, without a stack overflow or an hour of parsing."""
    with pytest.raises(BadJson) as caught:
        decode(body)
    assert reason in caught.value.message
    assert caught.value.status == 400


def test_what_follows_the_document_is_ignored() -> None:
    """Go's decoder stops at the end of the first value, and clients send newlines."""
    assert decode(b'\n\n {"a":1}\n garbage') == {"a": 1}


def test_broken_text_is_replaced() -> None:
    """Neither bad UTF-8 nor half a UTF-16 pair reaches the model, or breaks the answer."""
    assert decode(b'{"a":"\xff"}') == {"a": "�"}
    text = decode(b'{"a":"x\\ud800y","b\\udc00":["\\ud83d\\ude00"]}')
    assert text == {"a": "x�y", "b�": ["😀"]}
    assert str(text).encode()


def test_only_an_object_is_a_request() -> None:
    with pytest.raises(WrongType, match=r"array into Go value of type api\.Chat"):
        decode(b"[]", "api.Chat")


def test_errors_name_the_path() -> None:
    """ChatRequest.messages[1].content is of type string: the field that has to be mended."""
    body = b'{"messages":[{"content":"a"},{"content":5}],"n":1.5,"t":"x","s":[1]}'
    fields = Fields(decode(body), "ChatRequest")
    begin = "^json: cannot unmarshal"
    with pytest.raises(
        WrongType,
        match=rf"{begin} number into Go struct field ChatRequest\.messages\[1\]\.content of",
    ):
        fields.objects("messages")[1].text("content")
    with pytest.raises(WrongType, match=rf"{begin} number 1.5 into .*\.n of type int$"):
        fields.integer("n")
    with pytest.raises(WrongType, match=rf"{begin} string into .*\.t of type bool$"):
        fields.boolean("t", False)
    with pytest.raises(WrongType, match=r"\.t of type \[\]any$"):
        fields.objects("t", "any")
    with pytest.raises(WrongType, match=r"\.s\[0\] of type string$"):
        fields.texts("s")


@pytest.mark.parametrize("value", [b"1,", b"{},", b"[[", b'{"a":1,"b":2},'])
def test_too_many_values_are_refused_unread(value: bytes) -> None:
    """Reading tens of millions of them would stop every other answer for seconds."""
    with pytest.raises(TooManyValues, match="at most 500,000"):
        decode(b'{"a":[' + value * (MOST_VALUES + 1))


def test_long_texts_are_no_values() -> None:
    """However many commas and brackets they have."""
    text = '[,{"\\' * (MOST_VALUES // 2)
    assert decode(json.dumps({"text": text, "n": [1, 2]}).encode()) == {"text": text, "n": [1, 2]}
