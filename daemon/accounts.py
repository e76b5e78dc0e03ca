"""Turns llama.cpp's account of buffers into a prediction, and into costs that fit better. Pure."""

from __future__ import annotations

from dataclasses import replace

from .devices import CPU, DRAFT, PROJECTOR, BufferBytes
from .facts import ModelFacts
from .packing import Packing, Split
from .placing import Costs, DeviceUse, Fit, Room, host_needs

Buffers = tuple[BufferBytes, ...]


def told_apart(
    fit: Fit, facts: ModelFacts, buffers: Buffers
) -> tuple[ModelFacts, Buffers, Buffers]:
    """The model's own buffers and those of its draft model, and facts that have what they say."""
    projector = [one for one in buffers if one.part == PROJECTOR]
    draft = tuple(one for one in buffers if one.part == DRAFT)
    if projector:
        facts = facts.with_projector(sum(one.weights_bytes for one in projector))
    if draft:
        sizes = {True: 0, False: 0}  # on the host, and not
        for one in draft:
            sizes[one.device == CPU] += one.weights_bytes + one.compute_bytes
        on_gpu = fit.companions_on_gpu
        here = (sizes[False], sizes[True]) if on_gpu else (sizes[True], facts.extra_host_bytes)
        facts = facts.with_draft(*here)
    return facts, tuple(one for one in buffers if not one.part), draft


def with_account(fit: Fit, facts: ModelFacts, buffers: Buffers, draft: Buffers = ()) -> Fit:
    """`fit` with llama.cpp's own numbers in place of ours.

    Adapters were not part of it, so ours stay. Of weights in a mapped file llama.cpp
    will report the mapped range, which is more than what is needed of it.
    """
    uses = [_plus(_measured(use, buffers), _measured(use, draft)) for use in fit.uses]
    companion = 1 if fit.companions_on_gpu else 0
    uses[companion] = replace(
        uses[companion],
        weights_bytes=uses[companion].weights_bytes
        + facts.extra_bytes
        - (facts.draft_bytes if draft else 0),
        kv_bytes=uses[companion].kv_bytes + (0 if draft else _companion_kv(fit, facts)),
    )
    needed = host_needs(tuple(uses))
    if fit.mapped_bytes:
        mapped = _beyond(buffers, fit.mapped_bytes) + _beyond(draft, facts.draft_mapped[companion])
        uses[0] = replace(uses[0], weights_bytes=uses[0].weights_bytes + mapped)
    return replace(fit, uses=tuple(uses), needed_bytes=needed, measured=True)


def _plus(one: DeviceUse, other: DeviceUse) -> DeviceUse:
    return replace(
        one,
        weights_bytes=one.weights_bytes + other.weights_bytes,
        kv_bytes=one.kv_bytes + other.kv_bytes,
        compute_bytes=one.compute_bytes + other.compute_bytes,
    )


def _beyond(buffers: Buffers, mapped_bytes: int) -> int:
    """How much more is mapped of a file than the weights that are in it for the host."""
    plain = sum(one.weights_bytes for one in buffers if _is_mapped(one))
    return mapped_bytes - plain if plain else 0


def fits(fit: Fit, host_bytes: int) -> bool:
    """Whether every device has the room that the fit's account asks for."""
    on_devices = all(use.total_bytes <= use.room_bytes for use in fit.uses[1:])
    return on_devices and fit.needed_bytes <= host_bytes


def corrected(fit: Fit, facts: ModelFacts, costs: Costs, buffers: Buffers) -> Costs:
    """Costs under which our own count of this fit comes out as llama.cpp's."""
    n_ctx, counted = fit.placement.n_ctx, _counted(fit, facts, costs)
    host, *devices = [_measured(use, buffers) for use in counted]
    kv_counted = sum(use.kv_bytes for use in counted)
    kv_measured = sum(one.kv_bytes for one in buffers)
    scale = costs.kv_scale * kv_measured / kv_counted if kv_counted else costs.kv_scale
    on_context = costs.token_bytes * n_ctx
    most = max(
        (_beside_cache(one, ours) for one, ours in zip(devices, counted[1:], strict=True)),
        default=costs.device_bytes + on_context,
    )
    return replace(
        costs,
        host_bytes=max(0, _beside_cache(host, counted[0]) - on_context),
        device_bytes=max(0, most - on_context),
        kv_scale=scale,
    )


def _beside_cache(measured: DeviceUse, counted: DeviceUse) -> int:
    """Compute buffers, and what weights take more than the file says: padding, repacking."""
    return measured.compute_bytes + max(0, measured.weights_bytes - counted.weights_bytes)


def _counted(fit: Fit, facts: ModelFacts, costs: Costs) -> tuple[DeviceUse, ...]:
    """The fit's account by our own count, without companions."""
    bare = replace(facts, extra_bytes=0, extra_kv_elements=0, extra_host_bytes=0)
    placement = fit.placement
    rooms = {use.device: use for use in fit.uses[1:]}
    split = Split(
        placement.n_ctx,
        placement.kv_type,
        tuple(
            (_room(rooms[name]), count)
            for name, count in zip(placement.devices, placement.layers, strict=True)
        ),
        fit.n_host_experts,
        companions_on_gpu=False,
        head_on_host=fit.head_on_host,
    )
    host_bytes = fit.uses[0].free_bytes
    return Packing(bare, costs, (), host_bytes, fit.head_on_host).uses(split)


def _room(use: DeviceUse) -> Room:
    return Room(use.device, use.room_bytes, use.free_bytes)


def _measured(use: DeviceUse, buffers: Buffers) -> DeviceUse:
    own = [one for one in buffers if one.device == use.device]
    return replace(
        use,
        weights_bytes=sum(one.weights_bytes for one in own),
        kv_bytes=sum(one.kv_bytes for one in own),
        compute_bytes=sum(one.compute_bytes for one in own),
    )


def _is_mapped(one: BufferBytes) -> bool:
    """Whether a load maps this from the file. A dry run, which maps nothing, has weights of the
    host in memory that the first GPU's driver pins (`CUDA_Host`) where there is such.
    """
    return one.device == CPU and (one.buffer == CPU or one.buffer.endswith("_Host"))


def _companion_kv(fit: Fit, facts: ModelFacts) -> int:
    placement = fit.placement
    costs = Costs(0, 0, 0)
    packing = Packing(facts, costs, (), 0)
    return packing.companions(placement.n_ctx, placement.kv_type) - facts.extra_bytes
