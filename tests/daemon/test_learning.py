"""What is known of costs while a placement is sought."""

from __future__ import annotations

from dataclasses import replace

from qm.daemon.fit import estimated_costs, logits_bytes
from qm.daemon.learning import Learning
from qm.daemon.placing import Costs

from .test_fit import EIGHT, MIB

LOGITS = logits_bytes(EIGHT, 4)
TOLD = Costs(10 * MIB, 100 * MIB, 512, 0.9)


def test_one_kind_tells_about_the_other_until_that_is_measured() -> None:
    """But for the logits, which the device holds that has the table of the output."""
    costs = Learning(EIGHT, 512, 4)
    assert costs.of(headless=False) == estimated_costs(EIGHT, 512, 4)
    costs.learn(TOLD, headless=True, may_fall=True)
    assert costs.of(headless=True) == TOLD
    whole = replace(TOLD, device_bytes=TOLD.device_bytes + LOGITS)
    assert costs.of(headless=False) == whole
    costs.learn(replace(TOLD, device_bytes=1), headless=False, may_fall=True)
    assert costs.of(headless=True) == TOLD
    assert costs.of(headless=False).device_bytes == 1


def test_after_a_fit_that_was_too_large_costs_only_rise() -> None:
    """Else the search could go on for ever."""
    costs = Learning(EIGHT, 512, 4)
    costs.learn(TOLD, headless=False, may_fall=True)
    costs.learn(replace(TOLD, device_bytes=1, host_bytes=11 * MIB), headless=False, may_fall=False)
    assert costs.of(headless=False) == replace(TOLD, host_bytes=11 * MIB)
