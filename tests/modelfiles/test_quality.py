"""What was measured and how it was made go into a config and come back."""

from __future__ import annotations

import pytest
from qm.modelfiles.config import Config
from qm.modelfiles.provenance import Provenance, StepRecord, parse_provenance
from qm.modelfiles.quality import Quality, parse_quality

QUALITY = Quality(12.5, 0.7, 1000, 4.5, 100.0, 20.0, kld_mean=0.05, text="sha256:t")
STEP = StepRecord("convert", "qm-convert/1", "step:1", {"a": "sha256:a"}, {"x": 1}, "sha256:b")
PROVENANCE = Provenance("org/repo", "abc", {"a": "sha256:a"}, (STEP,))


def test_a_config_keeps_both() -> None:
    """Through its bytes."""
    found = Config.parse(Config(provenance=PROVENANCE, quality=QUALITY).to_json(()))
    assert found.provenance == PROVENANCE
    assert found.quality == QUALITY


@pytest.mark.parametrize("value", [None, [], "x", {}, {"perplexity": "low"}, {"perplexity": 1.0}])
def test_odd_quality_is_none(value: object) -> None:
    """Configs come from strangers."""
    assert parse_quality(value) is None


@pytest.mark.parametrize("value", [None, [], "x", {"steps": [1]}, {"steps": [{"kind": "x"}]}])
def test_odd_provenance_is_none(value: object) -> None:
    """Half a history is none."""
    assert parse_provenance(value) is None


def test_a_variant_continues_its_base_s_history() -> None:
    """Files and steps of both, in order."""
    later = StepRecord("quantize", "llama", "step:2", {"model": "step:1"}, {}, "sha256:c")
    both = Provenance(steps=(later,)).after(PROVENANCE)
    assert both.steps == (STEP, later)
    assert (both.repository, both.files) == ("org/repo", {"a": "sha256:a"})
