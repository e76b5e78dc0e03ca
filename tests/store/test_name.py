from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qm.store.name import InvalidName, Name

WORDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("smol", Name("registry.ollama.ai", "library", "smol", "latest")),
        ("smol:7b", Name("registry.ollama.ai", "library", "smol", "7b")),
        ("me/smol", Name("registry.ollama.ai", "me", "smol", "latest")),
        ("hf.co/org/Repo-GGUF:Q4_K_M", Name("hf.co", "org", "Repo-GGUF", "Q4_K_M")),
        ("localhost:5000/a/b:c", Name("localhost:5000", "a", "b", "c")),
        ("  smol ", Name("registry.ollama.ai", "library", "smol", "latest")),
    ],
)
def test_missing_parts_are_the_defaults(text: str, name: Name) -> None:
    """What a name leaves out is Ollama's default."""
    assert Name.parse(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:",
        ":b",
        "/",
        "a/",
        "/a",
        "a/b/c/d",
        "..",
        "../a",
        "a/../b",
        "../../etc/passwd",
        "a:..",
        "a:b:c",
        ".hidden",
        "-rf",
        "--rpc=h",
        ";touch x",
        "$(id)",
        "a b",
        "a\n",
        "a\nb",
        "a\x00b",
        "%2e%2e/a",
        "na.me/model",
        "ä",
        "a" * 81,
        "a:" + "b" * 81,
        "h" * 351 + "/a/b",
    ],
)
def test_what_could_leave_the_store_is_refused(text: str) -> None:
    """Every part is whitelisted, so that a name is always a safe path."""
    if text == "a\n":  # surrounding space is the user's, not the name's
        assert Name.parse(text).model == "a"
        return
    with pytest.raises(InvalidName):
        Name.parse(text)


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("smol", "smol:latest", "smol"),
        ("registry.ollama.ai/library/smol:latest", "smol:latest", "smol"),
        ("me/smol:7b", "me/smol:7b", "me/smol:7b"),
        ("hf.co/library/smol", "hf.co/library/smol:latest", "hf.co/library/smol"),
    ],
)
def test_prints_the_shortest_form(text: str, full: str, short: str) -> None:
    """str always has the tag; short leaves the default tag out."""
    assert (str(Name.parse(text)), Name.parse(text).short) == (full, short)


@given(WORDS, WORDS)
def test_what_is_printed_parses_back(model: str, tag: str) -> None:
    """str and parse are inverse."""
    name = Name("hf.co", "org", model, tag)
    assert Name.parse(str(name)) == name
    assert Name.parse(name.short) == name


def test_case_does_not_count() -> None:
    """Two names that differ in case mean the same model."""
    assert Name.parse("HF.co/Org/Repo:Q4").key == Name.parse("hf.co/org/repo:q4").key


def test_a_long_wrong_name_is_cut_in_the_error() -> None:
    """An error never repeats a megabyte of input."""
    with pytest.raises(InvalidName) as caught:
        Name.parse("x" * 1_000_000)
    assert len(caught.value.message) < 300
    assert caught.value.status == 400
