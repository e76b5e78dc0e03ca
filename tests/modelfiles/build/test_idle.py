"""Instructions that a build has no use for are told, others are not."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from qm.modelfiles.build.create import create
from qm.modelfiles.build.idle import unmatched, without_effect
from qm.modelfiles.build.plan import Given, Tools, Wishes, plan
from qm.modelfiles.create_request import from_create_request
from qm.modelfiles.quantization import parse_quantize
from qm.modelfiles.spec import TensorType
from qm.store.name import Name
from qm.store.store import Store, open_store

USUAL, OWN, MATRIX = "sha256:usual", "sha256:own", "sha256:matrix"
FLOAT = Given(weights=("sha256:f16",), type="F16")
EMBEDS = Given(weights=("sha256:f16",), type="F16", generates=False)
REPOSITORY = Given(repository={"config.json": "sha256:c"})
OTHERS = (TensorType("ffn", "IQ4_NL"),)


def told(given: Given, kind: str, wished: Wishes) -> list[str]:
    wishes = Wishes(
        quantize=parse_quantize(kind) if kind else None,
        tensor_types=wished.tensor_types,
        imatrix=wished.imatrix,
        use_imatrix=wished.use_imatrix,
        calibration=wished.calibration or USUAL,
    )
    planned = plan(given, wishes, Tools("convert", "llama.cpp"))
    return without_effect(given, wishes, planned, USUAL)


@pytest.mark.parametrize(
    ("given", "kind", "wished", "sentence"),
    [
        (FLOAT, "Q8_0", Wishes(calibration=OWN), "Q8_0 is made without an importance matrix"),
        (REPOSITORY, "F16", Wishes(calibration=OWN), "F16 is made without an importance matrix"),
        (FLOAT, "Q4_K_M", Wishes(calibration=OWN, use_imatrix=False), "IMATRIX none computes"),
        (FLOAT, "Q4_K_M", Wishes(calibration=OWN, imatrix=MATRIX), "a matrix that is finished"),
        (EMBEDS, "Q4_K_M", Wishes(calibration=OWN), "only embeds"),
        (FLOAT, "Q8_0", Wishes(imatrix=MATRIX), "IMATRIX has no effect: Q8_0 is made without"),
        (REPOSITORY, "BF16", Wishes(imatrix=MATRIX), "IMATRIX has no effect: BF16 is made without"),
    ],
)
def test_what_changes_nothing_is_told_with_the_reason(
    given: Given, kind: str, wished: Wishes, sentence: str
) -> None:
    """One sentence each."""
    (found,) = told(given, kind, wished)
    assert sentence in found


@pytest.mark.parametrize(
    ("kind", "wished"),
    [
        ("Q4_K_M", Wishes()),
        ("Q8_0", Wishes()),
        ("Q4_K_M", Wishes(calibration=OWN)),
        ("Q4_K_M", Wishes(imatrix=MATRIX)),
        ("Q8_0", Wishes(imatrix=MATRIX, tensor_types=OTHERS)),
        ("Q8_0 embedding=Q4_K", Wishes(imatrix=MATRIX)),
    ],
)
def test_what_is_used_is_not(kind: str, wished: Wishes) -> None:
    """Also where only some tensors look at the matrix."""
    assert told(FLOAT, kind, wished) == []


def test_patterns_match_as_the_quantiser_matches_them() -> None:
    """Anywhere in a name, in lower case."""
    types = [TensorType(each, "Q8_0") for each in ("ATTN_V", "ffn_upp", r"blk\.9\.", "(?P<x>a)")]
    found = list(unmatched(types, ["blk.0.attn_v.weight", "blk.1.ffn_up.weight"]))
    assert [sentence.split("=")[0] for sentence in found] == [
        "TENSOR_TYPE ffn_upp",
        r"TENSOR_TYPE blk\.9\.",
    ]


def test_it_is_told_of_what_was_quantised_before(
    child: ProcessPoolExecutor, store: Store, tiny_llama: Path
) -> None:
    """Once in a build, whether its step is done or found."""
    for _ in range(2):
        notes = child.submit(notes_of, store.layout.root, tiny_llama).result(60)
        assert notes == ["note: TENSOR_TYPE nothing=Q8_0 has no effect: no tensor has such a name"]


def notes_of(home: Path, gguf: Path) -> list[str]:
    """What a build of the file says that it has no use for."""
    store, said = open_store(home), list[str]()
    request = {
        "files": {"m.gguf": store.blobs.put(gguf.read_bytes())},
        "quantize": "Q4_0",
        "imatrix": "none",
        "tensor_types": ["nothing=Q8_0", "attn_v=Q8_0"],
    }
    create(
        store,
        Name.parse("m"),
        from_create_request(request),
        lambda step: said.append(str(step["status"])),
    )
    return [status for status in said if status.startswith("note:")]
