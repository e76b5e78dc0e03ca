"""A lockfile says how to build a model elsewhere, or says why it can't."""

from __future__ import annotations

from typing import Any

import pytest
from qm.cli.lock import CannotLock, lock_entry

DIGEST = "a" * 64
QUANTIZE = {
    "kind": "quantize",
    "inputs": {"model": "step:1", "imatrix": "step:2"},
    "parameters": {"type": "Q4_K_M", "pure": True, "tensor_types": ["attn_v=Q6_K"]},
}
CONVERT = {"kind": "convert", "inputs": {}, "parameters": {"out_type": "auto", "name": "repo"}}
IMATRIX = {"kind": "imatrix", "inputs": {"text": "sha256:t"}, "parameters": {}}


def info(*steps: dict[str, Any], repository: str = "hf.co/org/repo") -> dict[str, Any]:
    made = {"repository": repository, "commit": "c" * 40, "steps": list(steps)}
    modelfile = f'FROM /store/blobs/sha256-{DIGEST}\nSYSTEM "be brief"\nPARAMETER top_k 3\n'
    return {"modelfile": modelfile, "qm": {"provenance": made}}


def test_a_locked_model_names_commit_steps_and_weights() -> None:
    """And all that its Modelfile says besides."""
    entry = lock_entry("m", info(CONVERT, IMATRIX, QUANTIZE))
    assert entry["weights"] == [f"sha256:{DIGEST}"]
    assert entry["request"] == {
        "from": f"hf.co/org/repo@{'c' * 40}",
        "system": "be brief",
        "parameters": {"top_k": 3},
        "quantize": "Q4_K_M pure",
        "imatrix": "auto",
        "tensor_types": ["attn_v=Q6_K"],
    }


def test_a_plain_conversion_quantises_nothing() -> None:
    """Its type is the repository's, or the float type that was asked for."""
    assert "quantize" not in lock_entry("m", info(CONVERT))["request"]
    wished = {**CONVERT, "parameters": {"out_type": "f16"}}
    assert lock_entry("m", info(wished))["request"]["quantize"] == "F16"


def test_what_came_from_this_machine_can_not_be_locked() -> None:
    """A directory or a matrix of one's own is nowhere else."""
    with pytest.raises(CannotLock, match="m was not built from a repository of the hub"):
        lock_entry("m", info(CONVERT, repository=""))
    with pytest.raises(CannotLock, match="an importance matrix of its own"):
        lock_entry("m", info(CONVERT, QUANTIZE))
