"""Planning: which steps, in which order, under which keys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qm.modelfiles.build.plan import (
    Given,
    NeedsImatrix,
    Plan,
    Requantizing,
    StepKind,
    Tools,
    Wishes,
    model_roles,
    parts_of,
    plan,
)
from qm.modelfiles.quantization import parse_quantize
from qm.modelfiles.spec import TensorType

TOOLS = Tools("qm-convert/1", "llama-cpp-python/1")
REPOSITORY = Given(repository={"config.json": "sha256:c", "model.safetensors": "sha256:m"})
FLOAT = Given(weights=("sha256:f16",), type="F16")


def wishes(quantize: str, **said: object) -> Wishes:
    settled = Wishes(quantize=parse_quantize(quantize), calibration="sha256:text")
    return replace(settled, **said)  # type: ignore[arg-type]  # a test's keyword arguments


def kinds(planned: Plan) -> list[StepKind]:
    return [step.kind for step in planned.steps]


def test_nothing_asked_nothing_done() -> None:
    """A model of GGUF files keeps them."""
    assert plan(FLOAT, Wishes(), TOOLS) == Plan((), ("sha256:f16",))


def test_the_whole_way() -> None:
    """Each step takes what the one before makes."""
    planned = plan(REPOSITORY, wishes("Q4_K_M"), TOOLS)
    assert kinds(planned) == [StepKind.CONVERT, StepKind.IMATRIX, StepKind.QUANTIZE]
    convert, imatrix, quantize = planned.steps
    assert imatrix.inputs == {"model": convert.key, "text": "sha256:text"}
    assert quantize.inputs == {"model": convert.key, "imatrix": imatrix.key}
    assert planned.weights == (quantize.key,)


@pytest.mark.parametrize("kind", ["F16", "BF16", "F32"])
def test_a_float_type_is_converted_to_at_once(kind: str) -> None:
    """No second pass over the weights."""
    planned = plan(REPOSITORY, wishes(kind), TOOLS)
    assert kinds(planned) == [StepKind.CONVERT]
    assert planned.steps[0].parameters["out_type"] == kind.lower()


@pytest.mark.parametrize("option", ["pure", "output=Q8_0", "embedding=Q8_0"])
def test_the_same_type_with_other_wishes_is_no_cause_to_do_nothing(option: str) -> None:
    """Otherwise they would be dropped without a word."""
    assert kinds(plan(FLOAT, wishes(f"F16 {option}"), TOOLS)) == [StepKind.QUANTIZE]
    quantised = Given(weights=("sha256:q4",), type="Q4_K_M")
    assert kinds(plan(quantised, wishes("Q4_K_M requantize threads=1"), TOOLS)) == []
    with pytest.raises(Requantizing):
        plan(quantised, wishes(f"Q4_K_M {option}"), TOOLS)


def test_no_matrix_where_it_changes_nothing() -> None:
    """Q8_0 ignores it; models that only embed have no text to predict."""
    assert kinds(plan(FLOAT, wishes("Q8_0"), TOOLS)) == [StepKind.QUANTIZE]
    embedding = replace(FLOAT, generates=False)
    assert kinds(plan(embedding, wishes("Q4_K_M"), TOOLS)) == [StepKind.QUANTIZE]
    assert kinds(plan(FLOAT, wishes("Q4_K_M", use_imatrix=False), TOOLS)) == [StepKind.QUANTIZE]


def test_a_given_matrix_is_used_as_it_is() -> None:
    """Nothing is computed then."""
    planned = plan(FLOAT, wishes("IQ2_XS", imatrix="sha256:matrix"), TOOLS)
    assert kinds(planned) == [StepKind.QUANTIZE]
    assert planned.steps[0].inputs["imatrix"] == "sha256:matrix"


def test_small_types_need_a_matrix() -> None:
    """Saying none is an error, before any work."""
    with pytest.raises(NeedsImatrix, match="IQ2_XS needs an importance matrix"):
        plan(FLOAT, wishes("IQ2_XS", use_imatrix=False), TOOLS)


def test_quantising_twice_must_be_meant() -> None:
    """The same type needs nothing; COPY changes nothing."""
    small = Given(weights=("sha256:q8",), type="Q8_0")
    with pytest.raises(Requantizing, match="QUANTIZE Q4_0 requantize"):
        plan(small, wishes("Q4_0"), TOOLS)
    assert kinds(plan(small, wishes("Q4_0 requantize", use_imatrix=False), TOOLS)) == ["quantize"]
    assert plan(small, wishes("Q8_0"), TOOLS).steps == ()
    assert kinds(plan(small, wishes("COPY"), TOOLS)) == ["quantize"]


def test_another_type_re_uses_conversion_and_matrix() -> None:
    """Their keys are the same, so their outputs are."""
    one, other = (plan(REPOSITORY, wishes(kind), TOOLS) for kind in ("Q4_K_M", "Q5_K_M"))
    assert [step.key for step in one.steps[:2]] == [step.key for step in other.steps[:2]]
    assert one.weights != other.weights


@pytest.mark.parametrize(
    "changed",
    [
        (replace(REPOSITORY, repository={"config.json": "sha256:d"}), wishes("Q4_K_M"), TOOLS),
        (REPOSITORY, wishes("Q4_K_M pure"), TOOLS),
        (REPOSITORY, wishes("Q4_K_M", calibration="sha256:other"), TOOLS),
        (REPOSITORY, wishes("Q4_K_M", tensor_types=(TensorType("a", "Q8_0"),)), TOOLS),
        (REPOSITORY, wishes("Q4_K_M"), replace(TOOLS, convert="qm-convert/2")),
        (REPOSITORY, wishes("Q4_K_M"), replace(TOOLS, llama_cpp="llama-cpp-python/2")),
    ],
)
def test_whatever_changes_the_bytes_changes_the_key(changed: tuple[Given, Wishes, Tools]) -> None:
    """Inputs, parameters and versions alike."""
    assert plan(*changed).weights != plan(REPOSITORY, wishes("Q4_K_M"), TOOLS).weights


def test_threads_change_no_key() -> None:
    """They only change how long it takes."""
    assert plan(FLOAT, wishes("Q4_0 threads=1"), TOOLS) == plan(FLOAT, wishes("Q4_0"), TOOLS)


def test_parts_keep_their_order() -> None:
    """Also the tenth after the second."""
    parts = [f"sha256:{number}" for number in range(12)]
    assert parts_of(model_roles(parts)) == parts
    assert parts_of(model_roles(["sha256:one"])) == ["sha256:one"]
