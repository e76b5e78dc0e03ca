"""Which files make up the model that was asked for."""

from __future__ import annotations

import pytest
from qm.store.pull.choose import (
    Ambiguous,
    Incomplete,
    NoGguf,
    NoSuchQuant,
    RepoFile,
    choose,
    quant_of,
)
from qm.store.pull.reference import Reference, parse_reference


def files(*paths: str) -> list[RepoFile]:
    """Listed files; each is larger than the one before."""
    sizes = range(1_000_000, 10**9, 1_000_000)
    return [RepoFile(path, size, None, "") for path, size in zip(paths, sizes, strict=False)]


def chosen(paths: list[str], asked: str = "hf.co/o/r") -> list[str]:
    choice = choose(files(*paths), parse_reference(asked))
    extra = [choice.projector.path] if choice.projector else []
    return [part.path for part in choice.variant.parts] + extra


@pytest.mark.parametrize(
    ("path", "quant"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("model-q4_k_m.gguf", "Q4_K_M"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("Llama-3-UD-IQ2_XXS.gguf", "IQ2_XXS"),
        ("BF16/Big-BF16-00001-of-00002.gguf", "BF16"),
        ("Q8_0/part.gguf", "Q8_0"),
        ("Qwen2.5-F16-Q5_K_S.gguf", "Q5_K_S"),
        ("ggml-model.gguf", ""),
        ("FastQ4_0Model.gguf", ""),
    ],
)
def test_the_quantisation_is_read_from_the_name_or_folder(path: str, quant: str) -> None:
    """In any case, as a word of its own."""
    assert quant_of(path) == quant


def test_the_named_quantisation_is_taken() -> None:
    """In any case; by file name too."""
    paths = ["m-Q4_K_M.gguf", "m-Q8_0.gguf", "README.md"]
    assert chosen(paths, "hf.co/o/r:q8_0") == ["m-Q8_0.gguf"]
    assert chosen(paths, "hf.co/o/r:M-Q8_0") == ["m-Q8_0.gguf"]
    assert chosen(paths, "hf.co/o/r:m-Q8_0.gguf") == ["m-Q8_0.gguf"]
    assert chosen(paths, "https://hf.co/o/r/blob/main/m-Q8_0.gguf") == ["m-Q8_0.gguf"]


def test_without_one_the_usual_one_is_taken() -> None:
    """Four bits with K quants before anything larger or smaller."""
    assert chosen(["m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"]) == ["m-Q4_K_M.gguf"]
    assert chosen(["m-F16.gguf", "m-Q8_0.gguf", "m-Q3_K_M.gguf"]) == ["m-Q8_0.gguf"]
    assert chosen(["only.gguf"]) == ["only.gguf"]


def test_split_files_come_whole_and_in_order() -> None:
    """However the listing is sorted."""
    parts = [f"Q4_0/m-Q4_0-{number:05}-of-00003.gguf" for number in (3, 1, 2)]
    assert chosen([*parts, "m-Q8_0.gguf"], "hf.co/o/r:Q4_0") == sorted(parts)
    with pytest.raises(Incomplete, match="lacks 2"):
        chosen(parts[:2])


def test_a_projector_comes_along() -> None:
    """The one of usual precision; it is no model of its own."""
    paths = ["m-Q4_0.gguf", "mmproj-m-F32.gguf", "mmproj-m-F16.gguf", "mmproj-m-Q8_0.gguf"]
    assert chosen(paths) == ["m-Q4_0.gguf", "mmproj-m-F16.gguf"]
    assert chosen([*paths, "imatrix.gguf"]) == ["m-Q4_0.gguf", "mmproj-m-F16.gguf"]


def test_a_missing_one_lists_what_there_is() -> None:
    """With sizes, and what fits the machine where that is known."""
    listed = files("m-Q4_0.gguf", "m-Q8_0.gguf")
    with pytest.raises(NoSuchQuant) as caught:
        choose(listed, Reference("o/r", "Q5_K_M"), memory_bytes=1_500_000)
    assert caught.value.status == 404
    assert caught.value.message.splitlines() == [
        "o/r has no model 'Q5_K_M'; it has:",
        "  hf.co/o/r:Q4_0     1 MB  fits this machine",
        "  hf.co/o/r:Q8_0     2 MB  too large",
    ]


@pytest.mark.parametrize("paths", [["a.gguf", "b.gguf"], ["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"]])
def test_what_could_be_several_is_listed_so_that_each_can_be_named(paths: list[str]) -> None:
    """And every line of the list works."""
    with pytest.raises(Ambiguous) as caught:
        chosen(paths)
    lines = caught.value.message.splitlines()[1:]
    assert [chosen(paths, line.split()[0]) for line in lines] == [[path] for path in paths]


def test_weights_that_are_no_gguf_say_how_to_build() -> None:
    """In a command that works, with the type that was asked for; an empty repository says so."""
    with pytest.raises(NoGguf, match=r"qm pull hf.co/o/r --quantize Q8_0, .* --from hf.co/o/r$"):
        chosen(["model.safetensors", "config.json"], "hf.co/o/r:Q8_0")
    with pytest.raises(NoGguf, match="neither"):
        chosen(["README.md"])
