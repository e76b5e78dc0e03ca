"""What a comparison looks like."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest
from qm.cli.chart import bar_charts
from qm.cli.compare import (
    NothingToCompare,
    charts,
    ladder_name,
    ladder_types,
    terminal_chart,
)
from qm.cli.quality import quality_facts, quality_table
from qm.modelfiles.quantization import UnknownType

QUALITY = {
    "perplexity": 12.5,
    "perplexity_error": 0.5,
    "size_bytes": 105_000_000,
    "bits_per_weight": 6.17,
    "prompt_tokens_per_s": 200.0,
    "generated_tokens_per_s": 20.0,
}


def test_the_table_has_a_dash_for_what_was_not_measured() -> None:
    """No number is made up."""
    model = {"name": "m:latest", "size": 98_000_000, "details": {"quantization_level": "Q4_0"}}
    lines = quality_table([{**model, "qm": {"quality": QUALITY}}, model]).splitlines()
    assert lines[1].split() == [
        "m:latest",
        "Q4_0",
        "6.17",
        "105",
        "MB",
        "12.5000",
        "-",
        "-",
        "200",
        "20.0",
    ]
    assert lines[2].split() == ["m:latest", "Q4_0", "-", "98", "MB", "-", "-", "-", "-", "-"]


def test_divergence_is_told_where_there_is_a_base() -> None:
    """Otherwise nothing is said about it."""
    assert "divergence" not in dict(quality_facts(QUALITY))
    with_base = QUALITY | {"kld_mean": 0.05, "kld_p99": 0.3, "top1_agreement": 0.88}
    assert dict(quality_facts(with_base))["same first choice"] == "88.00%"


def test_bars_are_as_long_as_their_values() -> None:
    """The largest is the longest."""
    lines = terminal_chart([("Q2_K", 20.0), ("Q8_0", 10.0)]).splitlines()
    assert [line.count("█") for line in lines] == [0, 40, 20]


def test_the_ladder_s_names() -> None:
    """Model and type, in what names may have."""
    assert ladder_name("smol:latest", "Q4_K_M") == "smol-q4_k_m"
    assert ladder_name("org/smol:f16", "Q8_0") == "org/smol-f16-q8_0"


def test_types_are_checked_before_anything_is_built() -> None:
    """In any case, each once; a slip of the finger gets a suggestion."""
    assert ladder_types("q8_0, Q4_K_M,Q8_0,") == ["Q8_0", "Q4_K_M"]
    with pytest.raises(UnknownType, match="did you mean Q4_K_M"):
        ladder_types("Q4_KM")
    with pytest.raises(NothingToCompare):
        ladder_types(" ,")


def test_the_chart_is_a_png() -> None:
    """With a header, checksums and as many pixels as it says; the base has no divergence."""
    measured = {"perplexity": 12.5, "ms_per_token": 3.0, "bits_per_weight": 4.9}
    rows: list[dict[str, Any]] = [  # Any: JSON
        {"type": "Q4_K_M", "kld_mean": 0.05, **measured},
        {"type": "BF16", "kld_mean": None, **measured},
    ]
    drawn = charts(rows)
    assert [len(chart.bars) for chart in drawn] == [2, 1, 2, 2]
    data = bar_charts(drawn)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    length = struct.unpack(">I", data[33:37])[0]
    pixels = zlib.decompress(data[41 : 41 + length])
    assert len(pixels) == height * (width + 1)
    assert {0, 120, 255} <= set(pixels)
