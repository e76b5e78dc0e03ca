"""What people write for a model on the hub."""

from __future__ import annotations

import pytest
from qm.store.name import InvalidName
from qm.store.pull.reference import (
    InvalidReference,
    Reference,
    is_hub,
    of_hub,
    parse_reference,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "meant", "name"),
    [
        ("hf.co/org/repo", Reference("org/repo"), "hf.co/org/repo:latest"),
        ("hf:org/repo", Reference("org/repo"), "hf.co/org/repo:latest"),
        ("HF.co/Org/Repo:q4_K_m", Reference("Org/Repo", "q4_K_m"), "hf.co/Org/Repo:q4_K_m"),
        ("huggingface.co/o/r.1:Q8_0", Reference("o/r.1", "Q8_0"), "hf.co/o/r.1:Q8_0"),
        (
            "hf.co/o/r:Q8_0@refs/pr/1",
            Reference("o/r", "Q8_0", revision="refs/pr/1"),
            "hf.co/o/r:Q8_0-refs-pr-1",
        ),
        ("hf.co/o/r@main", Reference("o/r"), "hf.co/o/r:latest"),
        (f"hf:o/r@{COMMIT}", Reference("o/r", revision=COMMIT), "hf.co/o/r:latest-0123456789ab"),
        ("https://huggingface.co/o/r/", Reference("o/r"), "hf.co/o/r:latest"),
        ("https://hf.co/o/r/tree/v1", Reference("o/r", revision="v1"), "hf.co/o/r:latest-v1"),
        (
            "https://huggingface.co/o/r/blob/main/sub/x-Q4_0-00001-of-00002.gguf?a=b",
            Reference("o/r", file="sub/x-Q4_0-00001-of-00002.gguf"),
            "hf.co/o/r:x-Q4_0",
        ),
        (
            "https://huggingface.co/o/r/resolve/v1/x.gguf",
            Reference("o/r", file="x.gguf", revision="v1"),
            "hf.co/o/r:x-v1",
        ),
    ],
)
def test_a_reference_names_repository_model_and_revision(
    text: str, meant: Reference, name: str
) -> None:
    """However it is written."""
    assert is_hub(text)
    assert parse_reference(text) == meant
    assert str(meant.name) == name


@pytest.mark.parametrize(
    "text",
    [
        *("hf.co/", "hf.co/org", "hf.co/org/", "hf.co//repo", "hf.co/a/b/c", "hf.co/../b"),
        *(
            "hf.co/o/..",
            "hf.co/o/r:",
            "hf.co/o/r@",
            "hf.co/o/r:a/b",
            "hf.co/o/r:a b",
            "hf.co/o/r@..",
        ),
        *("hf.co/o/r@a/../b", "hf.co/o/r\n", "hf.co/o/r:Q4\x00", "hf.co/o/r:--rpc=h", "hf.co/;x/r"),
        *("https://huggingface.co/o/r/blob/main/x.zip", "https://huggingface.co/o/r/discussions"),
        *("https://huggingface.co/o/r/blob/main/../../x.gguf", "hf.co/$(id)/r", "hf.co/o/%2e%2e"),
        "https://huggingface.co/o/r/resolve/..%2f../x.gguf",
    ],
)
def test_what_names_nothing_is_refused(text: str) -> None:
    """Before anybody is asked, and without a path from it."""
    if text.endswith("\n"):
        assert parse_reference(text) == Reference("o/r")  # as pasted
        return
    with pytest.raises(InvalidReference):
        parse_reference(text)


@pytest.mark.parametrize("text", ["llama3", "library/llama3", "https://evil.com/o/r", "file:///x"])
def test_other_sources_are_not_of_the_hub(text: str) -> None:
    """So that another part of qm may know them."""
    assert not is_hub(text)


def test_a_name_that_can_not_be_kept_is_refused() -> None:
    """Names here are shorter than the hub's may be."""
    with pytest.raises(InvalidName):
        str(parse_reference(f"hf.co/o/r:{'x' * 90}").name)


@pytest.mark.parametrize(
    ("text", "endpoint", "meant"),
    [
        ("https://m.io/o/r", "https://m.io", "https://huggingface.co/o/r"),
        (
            " http://M.io/o/r/blob/main/x%20y.gguf?a",
            "https://m.io/",
            "https://huggingface.co/o/r/blob/main/x%20y.gguf",
        ),
        ("https://m.io:8443/hf/o/r", "https://m.io:8443/hf", "https://huggingface.co/o/r"),
        ("https://m.io/hfo/r", "https://m.io/hf", None),
        ("https://m.io:1/o/r", "https://m.io", None),
        ("https://evil.com/o/r", "https://m.io", None),
        ("https://m.io.evil.com/o/r", "https://m.io", None),
        ("m.io/o/r", "https://m.io", None),
        ("https://m.io/o/r", "m.io", None),
        ("https://[x/o/r", "https://[x", None),
        ("llama3", "", None),
    ],
)
def test_a_page_of_a_mirror_is_one_of_the_hub(text: str, endpoint: str, meant: str | None) -> None:
    """Of the mirror that is configured alone."""
    assert of_hub(text, endpoint) == (meant or text)
