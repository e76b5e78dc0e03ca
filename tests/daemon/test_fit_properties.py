"""Placement, whatever the model, the devices and the wishes: what always holds."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from qm.daemon.facts import ModelFacts
from qm.daemon.fit import fit
from qm.daemon.packing import KV_BYTES_PER_ELEMENT
from qm.daemon.placing import RUNNER_BYTES, Costs, DoesNotFit, Fit, Wanted
from qm.daemon.runner.wire import Options
from qm.modelfiles.parameters import KV_TYPES

from .test_fit import GIB, MIB, MODELS, gpus, machine

N = int(os.environ.get("QM_TEST_EXAMPLES", "1000"))  # of each property
MANY = settings(max_examples=N)
sizes = st.integers(0, 96 * 1024).map(lambda mebibytes: mebibytes * MIB)
models = st.sampled_from(sorted(MODELS)).map(MODELS.__getitem__)
options = st.builds(
    Options,
    num_ctx=st.none() | st.integers(1, 200_000),
    num_gpu=st.none() | st.integers(-1, 100),
    kv_type=st.none() | st.sampled_from(KV_TYPES),
)
wanted = st.builds(
    Wanted,
    context_length=st.sampled_from((0, 2048, 4096, 65536)),
    n_parallel=st.just(4),
    kv_types=st.sampled_from((("f16",), ("f16", "q8_0"))),
    shares_memory=st.booleans(),
)
costs = st.builds(
    Costs,
    host_bytes=st.integers(0, GIB),
    device_bytes=st.integers(0, GIB),
    token_bytes=st.integers(0, 65536),
)


@dataclass(frozen=True)
class Change:
    """A placement: `n_layers` are on GPUs, of which `spared` leave their experts to the host."""

    n_layers: int
    head_on_host: bool
    spared: int
    n_ctx: int
    kv_type: str


@st.composite
def cases(draw: st.DrawFn) -> tuple[ModelFacts, int, tuple[int, ...], Options, Wanted, Costs]:
    facts = draw(models)
    if draw(st.booleans()):
        facts = replace(facts, extra_bytes=draw(st.integers(0, 4 * GIB)), extra_kv_elements=512)
    rooms = tuple(draw(st.lists(sizes, max_size=4)))
    return facts, draw(sizes), rooms, draw(options), draw(wanted), draw(costs)


def placed(
    case: tuple[ModelFacts, int, tuple[int, ...], Options, Wanted, Costs],
) -> Fit | None:
    facts, host, rooms, wishes, want, cost = case
    try:
        return fit(facts, machine(host), wishes, want, rooms=gpus(*rooms), costs=cost)
    except DoesNotFit:
        return None


@MANY
@given(cases())
def test_a_placement_never_exceeds_any_memory(
    case: tuple[ModelFacts, int, tuple[int, ...], Options, Wanted, Costs],
) -> None:
    """Whatever is wished for; and an asked context is what is given."""
    found = placed(case)
    if found is None:
        return
    facts, host, rooms, wishes, _, _ = case
    assert found.needed_bytes <= host
    by_name = {room.name: room.room_bytes for room in gpus(*rooms)}
    for use in found.uses[1:]:
        assert use.total_bytes <= by_name[use.device]
    assert sum(use.n_layers for use in found.uses) == len(facts.layers) + 1
    expected = facts.weights_bytes + facts.extra_bytes
    if found.device_bytes and not found.head_on_host:
        expected += facts.tied_bytes
    assert found.weights_bytes == expected
    if wishes.num_ctx:
        assert found.placement.n_ctx == max(4, min(wishes.num_ctx, facts.n_ctx_train))


@MANY
@given(cases(), st.integers(0, 4), st.integers(1, 16 * GIB))
def test_more_memory_is_never_worse(
    case: tuple[ModelFacts, int, tuple[int, ...], Options, Wanted, Costs], where: int, more: int
) -> None:
    """Monotone in the memory of the host and of each device."""
    facts, host, rooms, wishes, want, cost = case
    if where < len(rooms):
        grown = (*rooms[:where], rooms[where] + more, *rooms[where + 1 :])
        after = placed((facts, host, grown, wishes, want, cost))
    else:
        after = placed((facts, host + more, rooms, wishes, want, cost))
    before = placed(case)
    if before is not None:
        assert after is not None
        assert after.rank >= before.rank


@MANY
@given(cases())
def test_no_single_change_that_fits_is_better(
    case: tuple[ModelFacts, int, tuple[int, ...], Options, Wanted, Costs],
) -> None:
    """One more layer, with the output's table on a GPU or on the host, that table back, one layer's
    experts back, companions on the first device, more context, or the better KV type: none fits.

    Checked by asking for exactly that change and counting anew, without the search.
    """
    found = placed(case)
    if found is None:
        return
    assert not _companions_fit_beside(case, found)
    for change in _changes(case, found):
        assert not _fits(case, change), change


def _changes(
    case: tuple[ModelFacts, int, tuple[int, ...], Options, Wanted, Costs], found: Fit
) -> list[Change]:
    """What would be better than `found` in one respect and the same in all others."""
    facts, _, rooms, wishes, want, _ = case
    now, experts = found.placement, found.n_host_experts
    same = Change(found.n_gpu_layers, found.head_on_host, experts, now.n_ctx, now.kv_type)
    changes = []
    most = len(facts.layers) + 1
    if wishes.num_gpu is not None and wishes.num_gpu >= 0:
        most = min(most, wishes.num_gpu)
    if same.n_layers < most and any(rooms):
        for head_on_host in (False, True)[: 2 if same.n_layers < len(facts.layers) else 1]:
            more = same.n_layers + 1
            spared = (more if head_on_host else more - 1) if facts.has_experts else 0
            changes.append(replace(same, n_layers=more, head_on_host=head_on_host, spared=spared))
    if same.head_on_host:
        spared = same.n_layers - 1 if facts.has_experts else 0
        changes.append(replace(same, head_on_host=False, spared=spared))
    if experts:
        changes.append(replace(same, spared=experts - 1))
    if not wishes.num_ctx and now.n_ctx < found.target_n_ctx and not found.companions_on_gpu:
        longer = min(found.target_n_ctx, now.n_ctx // 256 * 256 + 256)
        if not _takes_others_room(case, found, longer):
            changes.append(replace(same, n_ctx=longer))
    if now.kv_type != (wishes.kv_type or want.kv_types[0]):
        changes.append(replace(same, kv_type=want.kv_types[0]))
    return changes


def _companions_fit_beside(
    case: tuple[ModelFacts, int, tuple[int, ...], Options, Wanted, Costs], found: Fit
) -> bool:
    """Whether they were left on the host though the first device that is used has room."""
    facts, _, _, _, _, _ = case
    if found.companions_on_gpu or not facts.extra_bytes or len(found.uses) == 1:
        return False
    now = found.placement
    padded = -(-now.n_ctx // 256) * 256
    kv = int(facts.extra_kv_elements * padded * KV_BYTES_PER_ELEMENT[now.kv_type])
    first = found.uses[1]
    return first.total_bytes + facts.extra_bytes + kv <= first.room_bytes


def _takes_others_room(
    case: tuple[ModelFacts, int, tuple[int, ...], Options, Wanted, Costs], found: Fit, n_ctx: int
) -> bool:
    """Whether a cache for so many tokens would be more than a model's share."""
    facts, host, rooms, _, want, _ = case
    if want.context_length or not want.shares_memory:
        return False
    per_element = -(-n_ctx // 256) * 256 * KV_BYTES_PER_ELEMENT[found.placement.kv_type]
    n_host = max(0, len(facts.layers) + 1 - found.placement.n_gpu_layers)
    on_host = [int(one.kv_elements * per_element) for one in facts.layers[:n_host]]
    on_gpus = [int(one.kv_elements * per_element) for one in facts.layers[n_host:]]
    on_host.append(int(facts.extra_kv_elements * per_element))
    return sum(on_host) * 8 > host * 2 or sum(on_gpus) * 4 > sum(rooms)


def _fits(
    case: tuple[ModelFacts, int, tuple[int, ...], Options, Wanted, Costs],
    what: Change,
) -> bool:
    """Whether some contiguous split over the devices has room for this, counted plainly."""
    facts, host, rooms, _, _, cost = case
    n_ctx, n_host_experts = what.n_ctx, what.spared
    padded = -(-n_ctx // 256) * 256
    per_element = padded * KV_BYTES_PER_ELEMENT[what.kv_type]
    n_blocks = what.n_layers if what.head_on_host or not what.n_layers else what.n_layers - 1
    first = len(facts.layers) - n_blocks
    on_host = facts.layers[:first]
    needed = facts.input_bytes + cost.host_bytes + cost.token_bytes * n_ctx + RUNNER_BYTES
    needed += facts.extra_bytes + int(facts.extra_kv_elements * per_element)
    needed += sum(one.weights_bytes + int(one.kv_elements * per_element) for one in on_host)
    needed += sum(one.expert_bytes for one in facts.layers[first : first + n_host_experts])
    on_device = bool(what.n_layers) and not what.head_on_host
    needed += 0 if on_device else facts.output_bytes - facts.tied_bytes
    if needed > host:
        return False
    wanted_sizes = [
        one.dense_bytes
        + (one.expert_bytes if index >= n_host_experts else 0)
        + int(one.kv_elements * per_element)
        for index, one in enumerate(facts.layers[first:])
    ]
    wanted_sizes += [facts.output_bytes] if on_device else []
    reachable = {0}
    for room in rooms:
        left = room - cost.device_bytes - cost.token_bytes * n_ctx
        for start in sorted(reachable):
            total = 0
            for end in range(start, len(wanted_sizes)):
                total += wanted_sizes[end]
                if total > left:
                    break
                reachable.add(end + 1)
    return len(wanted_sizes) in reachable
