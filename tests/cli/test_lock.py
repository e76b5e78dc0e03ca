"""A lockfile says how to build a model elsewhere, or says why it can't."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from qm.cli.lock import lock_entry
from qm.cli.lock_files import InputMissing, bring_missing

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


def test_what_came_from_this_machine_is_named_by_digest() -> None:
    """Files of a directory, an adapter and a matrix of one's own."""
    document = info(CONVERT, QUANTIZE, repository="")
    files = {"config.json": "sha256:c", "adapter/adapter_config.json": "sha256:a"}
    document["qm"]["provenance"]["files"] = files
    document["qm"]["provenance"]["steps"][1]["inputs"]["imatrix"] = "sha256:i"
    request = lock_entry("m", document)["request"]
    assert request["files"] == {"config.json": "sha256:c"}
    assert request["adapters"] == {"adapter_config.json": "sha256:a"}
    assert request["merge"] is True
    assert request["imatrix_file"] == {"imatrix.gguf": "sha256:i"}
    assert "imatrix" not in request


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m", {"files": {"model-00001.gguf": f"sha256:{DIGEST}"}}),
        ("hf.co/org/repo:Q8_0", {"from": "hf.co/org/repo:Q8_0"}),
    ],
)
def test_what_came_as_it_is_comes_so_again(name: str, expected: dict[str, Any]) -> None:
    """A GGUF by its digest, what was pulled by its name."""
    modelfile = f"FROM /store/blobs/sha256-{DIGEST}\n"
    entry = lock_entry(name, {"modelfile": modelfile})
    assert entry == {"request": expected, "weights": [f"sha256:{DIGEST}"]}


def test_another_models_weights_are_named_by_digest() -> None:
    """Those that the first step began with, not those that came out."""
    step = {**QUANTIZE, "inputs": {"model": "sha256:base"}}
    document = info(step, repository="")
    request = lock_entry("m", document)["request"]
    assert request["files"] == {"model-00001.gguf": "sha256:base"}
    assert request["imatrix"] == "none"


class EmptyStore:
    """A client of a daemon that has no files, which notes what is sent."""

    def __init__(self) -> None:
        self.sent: dict[str, bytes] = {}

    def has_blob(self, _digest: str) -> bool:
        return False

    def upload(self, digest: str, data: bytes) -> None:
        self.sent[digest] = data


def test_files_are_found_by_digest_beside_the_lockfile(tmp_path: Path) -> None:
    """Under their name or another, there or one folder below; else the error names them."""
    digest = f"sha256:{sha256(b'{}').hexdigest()}"
    request = {"files": {"config.json": digest}}
    (tmp_path / "config.json").write_bytes(b"{ }")
    client: Any = EmptyStore()
    with pytest.raises(InputMissing, match=rf"config.json \({digest}\) is needed"):
        bring_missing(client, request, tmp_path)
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/renamed.json").write_bytes(b"{}")
    bring_missing(client, request, tmp_path)
    assert client.sent == {digest: b"{}"}
