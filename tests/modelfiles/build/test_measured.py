"""What we measure is what llama.cpp's own tools measure, over the same text.

`recorded/measured.json` has what llama-perplexity and llama-imatrix (`-b 512`: a chunk at a time)
said about the tiny model and the first 3000 bytes of the bundled text.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qm.modelfiles.build.chunks import TextTooShort
from qm.modelfiles.build.evaluate import Subject, evaluate
from qm.modelfiles.build.imatrix import compute_imatrix
from qm.modelfiles.build.imatrix_file import Imatrix, pack_imatrix
from qm.modelfiles.build.ladder import measure_ladder
from qm.modelfiles.build.native_model import ModelUnusable
from qm.modelfiles.build.quantise import Order, quantise
from qm.modelfiles.build.texts import CALIBRATION, EVALUATION
from qm.modelfiles.quality import Quality
from qm.modelfiles.quantization import parse_quantize

from tests.modelfiles.build.split import split_gguf

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "recorded/measured.json").read_text()
)
TEXT = EVALUATION.data[:3000]


@pytest.fixture(scope="module")
def small(
    child: ProcessPoolExecutor, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model in Q4_K_M."""
    path = tmp_path_factory.mktemp("small") / "q4.gguf"
    child.submit(quantise, tiny_llama, path, Order(parse_quantize("Q4_K_M")), print).result(60)
    return path


def measured(child: ProcessPoolExecutor, subject: Subject, text: bytes = TEXT) -> Quality:
    return child.submit(evaluate, subject, text, print).result(60)


def test_a_ladder_measures_what_single_models_do(
    child: ProcessPoolExecutor, tiny_llama: Path, small: Path, tmp_path: Path
) -> None:
    """Though the base reads the text once for all."""
    text = EVALUATION.data[:6000]
    single = measured(child, Subject([small], [tiny_llama]), text)
    models = {"a": [small], "b": [small]}
    run = partial(measure_ladder, scratch=tmp_path)
    base, found = child.submit(run, [tiny_llama], models, text, print).result(60)
    assert base.perplexity == pytest.approx(measured(child, Subject([tiny_llama]), text).perplexity)
    assert base.kld_mean is None
    for one in found.values():
        assert one.perplexity == pytest.approx(single.perplexity)
        assert one.kld_mean == pytest.approx(single.kld_mean)
        assert one.top1_agreement == single.top1_agreement
        assert one.tokens == single.tokens
    assert list(tmp_path.iterdir()) == []


def imatrix(child: ProcessPoolExecutor, model: Path, text: bytes = TEXT) -> Imatrix:
    return imatrix_of(child, [model], text)


def imatrix_of(child: ProcessPoolExecutor, parts: list[Path], text: bytes = TEXT) -> Imatrix:
    return child.submit(compute_imatrix, parts, text, "text.txt", print).result(60)


def test_perplexity_equals_llama_perplexity(child: ProcessPoolExecutor, tiny_llama: Path) -> None:
    """With its error, to more than three digits; without a base there is no divergence."""
    found = measured(child, Subject([tiny_llama]))
    assert found.perplexity == pytest.approx(RECORDED["perplexity"], rel=1e-4)
    assert found.perplexity_error == pytest.approx(RECORDED["perplexity_error"], rel=1e-3)
    assert found.kld_mean is None
    assert found.top1_agreement is None
    assert found.size_bytes == tiny_llama.stat().st_size
    assert 16 < found.bits_per_weight < 16.1
    assert found.prompt_tokens_per_s > 0
    assert found.generated_tokens_per_s > 0


def test_a_model_in_parts_is_measured_as_a_whole(
    child: ProcessPoolExecutor, tiny_llama: Path, tmp_path: Path
) -> None:
    """Beside a base in parts too; the files may have any names, as blobs do."""
    parts = split_gguf(tiny_llama, tmp_path / "part.gguf", 6)
    assert len(parts) > 2
    blobs = [path.rename(tmp_path / f"sha256-{9 - number}") for number, path in enumerate(parts)]
    found = measured(child, Subject(blobs, blobs))
    assert found.perplexity == pytest.approx(RECORDED["perplexity"], rel=1e-4)
    assert found.kld_mean == pytest.approx(0, abs=1e-9)
    assert found.size_bytes == sum(path.stat().st_size for path in blobs)
    assert imatrix_of(child, blobs).chunk_count == RECORDED["imatrix"]["chunk_count"]


def test_divergence_equals_llama_perplexity(
    child: ProcessPoolExecutor, tiny_llama: Path, small: Path
) -> None:
    """Mean, 99th percentile and how often the first choice is the same."""
    found, theirs = measured(child, Subject([small], [tiny_llama])), RECORDED["q4"]
    assert found.perplexity == pytest.approx(theirs["perplexity"], rel=1e-4)
    assert found.kld_mean == pytest.approx(theirs["kld_mean"], rel=1e-3)
    assert found.kld_p99 == pytest.approx(theirs["kld_p99"], rel=1e-3)
    one_tie = 1 / found.tokens  # without AVX512 one falls otherwise, in llama-perplexity too
    assert found.top1_agreement == pytest.approx(theirs["top1_agreement"], abs=1.1 * one_tie)


def test_a_model_does_not_diverge_from_itself(child: ProcessPoolExecutor, small: Path) -> None:
    """Nor does it ever choose otherwise."""
    found = measured(child, Subject([small], [small]))
    assert found.kld_mean == pytest.approx(0, abs=1e-9)
    assert found.top1_agreement == 1


def test_imatrix_equals_llama_imatrix(child: ProcessPoolExecutor, tiny_llama: Path) -> None:
    """Every matrix of the blocks, the same counts, the same sums within a thousandth."""
    found, theirs = imatrix(child, tiny_llama), RECORDED["imatrix"]
    assert found.chunk_count == theirs["chunk_count"]
    assert found.chunk_size == 512
    assert set(found.entries) == set(theirs["counts"])
    for name, entry in found.entries.items():
        assert entry.counts.tolist() == theirs["counts"][name]
        norm = float(np.linalg.norm(entry.sums.astype(float)))
        assert norm == pytest.approx(theirs["norms"][name], rel=1e-3)
        assert entry.sums.ravel()[:4].tolist() == pytest.approx(theirs["first"][name], rel=1e-3)


def test_the_same_matrix_twice(child: ProcessPoolExecutor, tiny_llama: Path) -> None:
    """Byte for byte."""
    assert pack_imatrix(imatrix(child, tiny_llama)) == pack_imatrix(imatrix(child, tiny_llama))


def test_a_short_text_is_refused(child: ProcessPoolExecutor, tiny_llama: Path) -> None:
    """One chunk is no sample; the error says how much there is."""
    with pytest.raises(TextTooShort, match="the evaluation text has 11 bytes"):
        measured(child, Subject([tiny_llama]), b"a few words")
    with pytest.raises(TextTooShort, match="the calibration text has"):
        imatrix(child, tiny_llama, b"a few words")


def test_what_is_no_model_is_refused(child: ProcessPoolExecutor, tmp_path: Path) -> None:
    """With llama.cpp's reason."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelUnusable, match=r"llama\.cpp can't load the model"):
        imatrix(child, tmp_path / "m.gguf")


def test_bundled_texts_are_plain_and_long_enough() -> None:
    """UTF-8, no carriage returns, and one is not part of the other."""
    for text in (CALIBRATION, EVALUATION):
        assert "\r" not in text.data.decode()
        assert len(text.data) > 10_000
    assert EVALUATION.data[:500] not in CALIBRATION.data
