"""From a Modelfile to what it asks for."""

from __future__ import annotations

import pytest
from qm.modelfiles.gotemplate.errors import TemplateSyntaxError
from qm.modelfiles.parser import ModelfileError, parse
from qm.modelfiles.spec import ModelSpec, NotYet, Source, TensorType, Turn, from_modelfile


def spec(text: str) -> ModelSpec:
    return from_modelfile(parse(text))


def test_a_whole_modelfile() -> None:
    """Every instruction of Ollama's and ours lands in its field."""
    text = """
FROM ./a.gguf
FROM ./b.gguf
TEMPLATE {{ .Prompt }}
SYSTEM You are a pirate.
PARAMETER stop a
PARAMETER num_ctx 10
PARAMETER stop b
PARAMETER num_ctx 20
MESSAGE user hi
MESSAGE assistant Arr
LICENSE one
LICENSE two
ADAPTER ./lora.gguf
REQUIRES 0.14.0
DRAFT ./draft.gguf
RENDERER r
PARSER p
QUANTIZE Q4_K_M
IMATRIX auto
CALIBRATION ./text.txt
TENSOR_TYPE blk\\.(0|1)\\.a=b=Q8_0
DELTA org/delta
EVALUATE
"""
    assert spec(text) == ModelSpec(
        from_=(Source("./a.gguf"), Source("./b.gguf")),
        template="{{ .Prompt }}",
        system="You are a pirate.",
        parameters={"stop": ("a", "b"), "num_ctx": 20},
        messages=(Turn("user", "hi"), Turn("assistant", "Arr")),
        licenses=("one", "two"),
        adapters=(Source("./lora.gguf"),),
        requires="0.14.0",
        drafts=(Source("./draft.gguf"),),
        renderer="r",
        parser="p",
        quantize="Q4_K_M",
        imatrix="auto",
        calibration=Source("./text.txt"),
        tensor_types=(TensorType("blk\\.(0|1)\\.a=b", "Q8_0"),),
        deltas=(Source("org/delta"),),
        evaluate=True,
    )


def test_the_last_of_repeated_texts_wins() -> None:
    """As Ollama does it."""
    assert spec("FROM a\nSYSTEM one\nSYSTEM two\nTEMPLATE x\nTEMPLATE y").system == "two"


def test_nothing_said_is_not_the_same_as_an_empty_text() -> None:
    """`SYSTEM ""` takes a base's system text away."""
    assert spec("FROM a").system is None
    assert spec('FROM a\nSYSTEM ""').system == ""


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("SYSTEM a", 0, "no FROM line"),
        ("FROM a\nPARAMETER foo 1", 2, "unknown parameter 'foo'"),
        ("FROM a\nPARAMETER Temperature 1", 2, "unknown parameter 'Temperature'"),
        ("FROM a\n\nPARAMETER temperature hot", 3, 'option "temperature" must be of type float32'),
        ("FROM a\nPARAMETER top_p 2", 2, 'option "top_p" must be between 0 and 1'),
        ("FROM a\nREQUIRES banana", 2, "REQUIRES needs a version"),
        ("FROM a\nTENSOR_TYPE x", 2, "TENSOR_TYPE needs <pattern>=<type>"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, line: int, words: str) -> None:
    """For what the grammar allows and no model can have."""
    with pytest.raises(ModelfileError) as caught:
        spec(text)
    assert words in str(caught.value)
    assert caught.value.line == line


def test_a_broken_template_is_refused() -> None:
    """Before anything is built."""
    with pytest.raises(TemplateSyntaxError, match="unclosed action"):
        spec("FROM a\nTEMPLATE {{ if .Foo")


def test_retired_parameters_warn() -> None:
    """Old Modelfiles still build."""
    found = spec("FROM a\nPARAMETER low_vram true\nPARAMETER seed 1")
    assert found.parameters == {"seed": 1}
    assert found.warnings == ("line 2: PARAMETER low_vram has no effect any more",)


@pytest.mark.parametrize(
    "text",
    [
        "RENDERER qwen3-coder",
        "PARSER qwen3-coder",
    ],
)
def test_what_cannot_be_done_yet_is_an_error_with_its_line(text: str) -> None:
    """An instruction is never ignored."""
    keyword = text.split(maxsplit=1)[0]
    with pytest.raises(NotYet, match=f"^line 2: {keyword} is not supported yet") as caught:
        spec(f"FROM a\n{text}").refuse_unperformable()
    assert caught.value.status == 400


def test_everything_else_can_be_done() -> None:
    """No false alarm for what this version builds."""
    spec(
        "FROM a\nSYSTEM s\nDRAFT hf.co/org/repo\nADAPTER ./x.gguf\nREQUIRES 1.0.0"
    ).refuse_unperformable()


@pytest.mark.parametrize(
    ("text", "is_hub"),
    [
        ("hf.co/org/repo", True),
        ("hf.co/org/repo:Q4_K_M", True),
        ("huggingface.co/org/repo", True),
        ("hf:org/repo", True),
        ("smollm2", False),
        ("./hf.co", False),
        ("registry/ns/model:tag", False),
    ],
)
def test_knows_repositories_of_the_hub(text: str, is_hub: bool) -> None:
    """They are fetched, everything else is a model of the store or a file."""
    assert Source(text).is_hub is is_hub
