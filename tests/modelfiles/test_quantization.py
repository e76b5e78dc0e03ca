"""What QUANTIZE takes, and what it says about what it does not know."""

from __future__ import annotations

import pytest
from qm.modelfiles.native import C
from qm.modelfiles.quantization import (
    FILE_TYPES,
    InvalidQuantize,
    Quantize,
    UnknownType,
    check_pattern,
    parse_quantize,
)


def test_knows_every_type_of_the_installed_llama_cpp() -> None:
    """A new one shows here first. NVFP4 can be run but not made."""
    prefixes = ("LLAMA_FTYPE_MOSTLY_", "LLAMA_FTYPE_ALL_")
    theirs = {
        name.removeprefix(prefix): getattr(C, name)
        for prefix in prefixes
        for name in dir(C)
        if name.startswith(prefix)
    }
    del theirs["NVFP4"]
    assert {**theirs, "COPY": None} == {**FILE_TYPES, "COPY": None}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Q4_K_M", Quantize("Q4_K_M")),
        ("q4_k", Quantize("Q4_K_M")),
        ("copy", Quantize("COPY")),
        ("iq3_m pure threads=3", Quantize("IQ3_M", pure=True, threads=3)),
        ("Q8_0 requantize output=f16", Quantize("Q8_0", requantize=True, output="F16")),
        ("Q2_K embedding=q8_0", Quantize("Q2_K", embedding="Q8_0")),
    ],
)
def test_reads_what_quantize_says(text: str, meant: Quantize) -> None:
    """Types in any case, aliases as llama-quantize has them."""
    assert parse_quantize(text) == meant


def test_suggests_what_was_meant() -> None:
    """A slip of the finger gets an answer that helps."""
    with pytest.raises(
        UnknownType, match=r"unknown quantization type 'Q4_KM'; did you mean Q4_K_M"
    ):
        parse_quantize("Q4_KM")
    with pytest.raises(UnknownType, match="known are F32, F16"):
        parse_quantize("llama")


@pytest.mark.parametrize("text", ["Q8_0 fast", "Q8_0 pure=1", "Q8_0 output", "Q8_0 threads=-1"])
def test_options_that_do_not_exist_are_refused(text: str) -> None:
    """Nothing is ignored."""
    with pytest.raises(InvalidQuantize):
        parse_quantize(text)


@pytest.mark.parametrize("pattern", ["(", "a" * 257])
def test_patterns_are_regular_expressions_of_sensible_length(pattern: str) -> None:
    """They go to C++'s regex engine, which is worse at refusing."""
    with pytest.raises(InvalidQuantize):
        check_pattern(pattern)
