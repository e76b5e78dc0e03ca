"""A vocabulary from tiktoken's file is the one that tokenizer.json spells out."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from qm.modelfiles.build.convert import convert
from qm.modelfiles.build.convert.errors import BadConfig, MissingTokenizer
from qm.modelfiles.build.convert.tiktoken import letters
from qm.store.gguf import read_header

from tests.modelfiles.build.convert.tiny import Json, write_repository

HERE = Path(__file__).parent
NAMES = ("<|endoftext|>", "<|user|>")


def repository(path: Path) -> Path:
    """ChatGLM's tensors, with a tokenizer of the bytes, a few words and two added tokens."""
    recorded: Json = json.loads((HERE / "recorded/chatglm3.json").read_text())["repository"]
    write_repository(path, recorded["config"], recorded["tensors"], tokenizer="bpe")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (path / file).unlink()
    tokens = [bytes([byte]) for byte in range(256)] + [b"he", b"th", b"the", b" the"]
    lines = [b"%s %d" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens)]
    (path / "tokenizer.model").write_bytes(b"\n".join(lines) + b"\n")
    decoder = {str(len(tokens) + at): {"content": name} for at, name in enumerate(NAMES)}
    (path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    return path


def converted(path: Path) -> Json:
    made = path.with_name("made.gguf")
    with made.open("wb") as out:
        convert(path, out, name="tiny")
    metadata = read_header(made, arrays=True).metadata
    return {key.removeprefix("tokenizer.ggml."): value for key, value in metadata.items()}


def test_tokens_are_bytes_in_printable_letters_and_rules_make_them(tmp_path: Path) -> None:
    """A token is joined from the two that its bytes would be without it."""
    found = converted(repository(tmp_path / "repository"))
    assert (found["model"], found["pre"]) == ("gpt2", "chatglm-bpe")
    assert found["tokens"][256:262] == ("he", "th", "the", "\u0120the", *NAMES)
    assert found["merges"] == ("h e", "t h", "t he", "\u0120 the")
    assert found["eot_token_id"] == 261
    assert len(found["tokens"]) == 384
    assert found["tokens"][262] == "[PAD262]"


def test_letters_are_those_of_gpt2() -> None:
    """Printable bytes stand for themselves, the others for letters from U+0100 on, in order."""
    assert letters(b"a~\xa1\xff") == "a~\xa1\xff"
    assert letters(b"\0\n \x7f\xad") == "\u0100\u010a\u0120\u0121\u0143"


@pytest.mark.parametrize(
    ("data", "error"), [(b"aGU= 0\nfoo\n", BadConfig), (b"aGU= 0\naGU 1\n", BadConfig)]
)
def test_damage_is_named(data: bytes, error: type[Exception], tmp_path: Path) -> None:
    """A line that is none of tiktoken's, and base64 that is cut short."""
    path = repository(tmp_path / "repository")
    (path / "tokenizer.model").write_bytes(data)
    with pytest.raises(error, match="is no file of tiktoken"):
        convert(path, io.BytesIO(), name="tiny")


def test_a_tokenizer_without_its_added_tokens_is_refused(tmp_path: Path) -> None:
    """They end an answer."""
    path = repository(tmp_path / "repository")
    (path / "tokenizer_config.json").unlink()
    with pytest.raises(MissingTokenizer, match="which end an answer"):
        convert(path, io.BytesIO(), name="tiny")
