"""What evaluation costs, as far as it is known while a placement is sought. Pure.

There are two kinds of placement: with the table of the output on a GPU, and headless ones, which
leave it to the host. Until a dry run tells about one, it is taken to cost what the other does, but
for the logits that the device with the table holds.
"""

from __future__ import annotations

from dataclasses import replace

from .facts import ModelFacts
from .fit import estimated_costs, logits_bytes
from .placing import Costs


class Learning:
    """Costs of both kinds: estimated, then measured."""

    def __init__(self, facts: ModelFacts, ubatch: int, n_parallel: int) -> None:
        whole = estimated_costs(facts, ubatch, n_parallel)
        self._logits_bytes = logits_bytes(facts, n_parallel)
        self._costs = {False: whole, True: self._from_other(whole, headless=True)}
        self._measured: set[bool] = set()

    def of(self, *, headless: bool) -> Costs:
        return self._costs[headless]

    def learn(self, costs: Costs, *, headless: bool, may_fall: bool) -> None:
        """Takes what a dry run told. After a fit that was too large (`may_fall` is false) costs
        only rise, so that the search ends.
        """
        before = self._costs[headless]
        self._costs[headless] = costs if may_fall else _risen(before, costs)
        self._measured.add(headless)
        if (not headless) not in self._measured:
            self._costs[not headless] = self._from_other(costs, headless=not headless)

    def _from_other(self, costs: Costs, *, headless: bool) -> Costs:
        beyond = -self._logits_bytes if headless else self._logits_bytes
        return replace(costs, device_bytes=max(0, costs.device_bytes + beyond))


def _risen(before: Costs, after: Costs) -> Costs:
    return replace(
        after,
        host_bytes=max(before.host_bytes, after.host_bytes),
        device_bytes=max(before.device_bytes, after.device_bytes),
        kv_scale=max(before.kv_scale, after.kv_scale),
    )
