"""What goes where, counted: layers onto devices one after the other, and what each then holds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import accumulate

from .devices import CPU
from .facts import ModelFacts
from .placing import RUNNER_BYTES, Costs, DeviceUse, Room

CONTEXT_STEP = 256  # llama.cpp pads the KV cache to this
KV_BYTES_PER_ELEMENT = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}


@dataclass(frozen=True, slots=True)
class Split:
    """One answer that is possible: what goes where.

    Layers are counted as llama.cpp does, the output as the last one; `head_on_host` leaves the
    table that makes logits to the host all the same.
    """

    n_ctx: int
    kv_type: str
    segments: tuple[tuple[Room, int], ...]  # devices and how many layers each has
    n_host_experts: int  # of the layers on GPUs, how many leave their experts to the host
    companions_on_gpu: bool
    head_on_host: bool = False
    rank: tuple[int, ...] = ()

    @property
    def n_layers(self) -> int:
        return sum(count for _, count in self.segments)

    @property
    def n_whole(self) -> int:
        """Of the layers on GPUs those that are there whole."""
        return self.n_layers - int(self.head_on_host)


@dataclass(frozen=True, slots=True)
class _Loads:
    """Sums over layers, the output last, so that no layer is counted twice."""

    dense: list[int]  # with caches: what all layers before this one weigh
    experts: list[int]
    n_host_experts: int

    @property
    def end(self) -> int:
        return len(self.dense) - 1

    def between(self, first: int, start: int, end: int) -> int:
        """Bytes on a device of the layers from `start`, where those from `first` are on devices."""
        spared = min(end, max(start, first + self.n_host_experts))
        return self.dense[end] - self.dense[start] + self.experts[end] - self.experts[spared]

    def reached(self, first: int, start: int, room_bytes: int) -> int:
        """The layer that a device has no room for any more, when filled from `start`."""
        ends = range(start + 1, self.end + 1)
        fitting = bisect_right(ends, room_bytes, key=lambda end: self.between(first, start, end))
        return start + fitting


def _filled(
    rooms: list[tuple[Room, int]], loads: _Loads, count: int, reserved_bytes: int
) -> tuple[tuple[Room, int], ...] | None:
    """Each device filled before the next; None where that leaves layers over."""
    first, end = loads.end - count, loads.end
    segments: list[tuple[Room, int]] = []
    start = first
    for room, left_bytes in rooms:
        left = left_bytes - (0 if segments else reserved_bytes)
        reached = loads.reached(first, start, left)
        if reached > start:
            segments.append((room, reached - start))
        elif reserved_bytes and not segments:
            return None  # the first device has no room for a layer beside them
        start = reached
    return tuple(segments) if start == end else None


def largest(numbers: list[int], possible: Callable[[int], bool]) -> int | None:
    """The last number that is possible; if one is, all before it are."""
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        if possible(numbers[middle]):
            low = middle + 1
        else:
            high = middle
    return numbers[low - 1] if low else None


@dataclass(frozen=True, slots=True)
class Packing:
    """A model and the memory for it."""

    facts: ModelFacts
    costs: Costs
    rooms: tuple[Room, ...]  # in the order in which they are filled
    host_bytes: int  # that the host has available
    head_on_host: bool = False
    _dense: dict[tuple[int, str], list[int]] = field(default_factory=dict, init=False, repr=False)
    _experts: list[int] = field(default_factory=list, init=False, repr=False)

    def most(self, most_layers: int, n_ctx: int, kv_type: str) -> Split:
        """Most layers, then most experts, then companions on devices."""
        n_blocks = len(self.facts.layers)
        counts = list(range(most_layers + 1))
        count = largest(counts, lambda one: self.has_room(one, n_ctx, kv_type)) or 0
        if not count:
            return Split(n_ctx, kv_type, (), 0, False, self.head_on_host)
        n_offloaded = min(count - 1, n_blocks) if self.facts.has_experts else 0
        n_spared = largest(
            list(range(n_offloaded, -1, -1)),
            lambda one: self.packed(count, one, n_ctx, kv_type) is not None,
        )
        n_spared = n_spared or 0
        companions = self.companions(n_ctx, kv_type)
        beside = self.packed(count, n_spared, n_ctx, kv_type, companions)
        segments = beside or self.packed(count, n_spared, n_ctx, kv_type) or ()
        return Split(n_ctx, kv_type, segments, n_spared, beside is not None, self.head_on_host)

    def has_room(self, count: int, n_ctx: int, kv_type: str) -> bool:
        """Whether the last `count` layers have room on devices, with all experts on the host."""
        return self.packed(count, len(self.facts.layers), n_ctx, kv_type) is not None

    def packed(
        self, count: int, n_host_experts: int, n_ctx: int, kv_type: str, reserved_bytes: int = 0
    ) -> tuple[tuple[Room, int], ...] | None:
        """The last `count` layers on the devices, one after the other; None: no room for them.

        One device that holds all is enough; `reserved_bytes` are kept free on the first used, and
        devices before one that has room for them may go unused.
        """
        if not count:
            return ()
        loads = self._loads(n_host_experts, n_ctx, kv_type)
        first, end = loads.end - count, loads.end
        compute = self._compute(self.costs.device_bytes, n_ctx)
        whole = loads.between(first, first, end) + compute + reserved_bytes
        single = next((room for room in self.rooms if room.room_bytes >= whole), None)
        if single:
            return ((single, count),)
        beginnings = len(self.rooms) if reserved_bytes else 1
        for skipped in range(beginnings):
            rooms = [(room, room.room_bytes - compute) for room in self.rooms[skipped:]]
            if segments := _filled(rooms, loads, count, reserved_bytes):
                return segments
        return None

    def uses(self, split: Split) -> tuple[DeviceUse, ...]:
        """What the host and each device of the split hold."""
        layers, count = self.facts.layers, split.n_layers
        first = len(layers) + 1 - count
        on_host = layers[: min(first, len(layers))]
        experts = sum(one.expert_bytes for one in layers[first : first + split.n_host_experts])
        output = self._head_bytes if count else self.facts.output_bytes
        output = max(0, output - self.facts.tied_bytes)  # the input's table is there anyway
        host = DeviceUse(
            CPU,
            self.facts.input_bytes + sum(one.weights_bytes for one in on_host) + experts + output,
            sum(self._kv(one.kv_elements, split.n_ctx, split.kv_type) for one in on_host),
            self._compute(self.costs.host_bytes, split.n_ctx),
            max(0, self.host_bytes - RUNNER_BYTES),
            self.host_bytes,
            len(on_host) + int(self.head_on_host or not count),
        )
        devices, start = [], first
        for room, n_layers in split.segments:
            devices.append(self._device_use(split, room, start, n_layers, first))
            start += n_layers
        return self._with_companions(split, [host, *devices])

    def _device_use(
        self, split: Split, room: Room, start: int, n_layers: int, first: int
    ) -> DeviceUse:
        layers = self.facts.layers
        held = range(start, min(start + n_layers, len(layers)))
        spared = first + split.n_host_experts
        weights = sum(
            layers[one].dense_bytes + (layers[one].expert_bytes if one >= spared else 0)
            for one in held
        )
        has_output = start + n_layers > len(layers)
        output = self.facts.output_bytes - self._head_bytes if has_output else 0
        kv = sum(self._kv(layers[one].kv_elements, split.n_ctx, split.kv_type) for one in held)
        compute = self._compute(self.costs.device_bytes, split.n_ctx)
        return DeviceUse(
            device=room.name,
            weights_bytes=weights + output,
            kv_bytes=kv,
            compute_bytes=compute,
            room_bytes=room.room_bytes,
            free_bytes=room.free_bytes,
            n_layers=n_layers - int(has_output and self.head_on_host),
            shares_host=room.shares_host,
            maps_files=room.maps_files,
        )

    def _with_companions(self, split: Split, uses: list[DeviceUse]) -> tuple[DeviceUse, ...]:
        place = 1 if split.companions_on_gpu else 0
        kv = self._kv(self.facts.extra_kv_elements, split.n_ctx, split.kv_type)
        one = uses[place]
        uses[place] = replace(
            one,
            weights_bytes=one.weights_bytes + self.facts.extra_bytes,
            kv_bytes=one.kv_bytes + kv,
        )
        if place:
            on_host = uses[0].weights_bytes + self.facts.extra_host_bytes
            uses[0] = replace(uses[0], weights_bytes=on_host)
        return tuple(uses)

    @property
    def _head_bytes(self) -> int:
        """Of the output's bytes those that no device has."""
        return self.facts.head_bytes if self.head_on_host else 0

    @property
    def has_companions(self) -> bool:
        return bool(self.facts.extra_bytes or self.facts.extra_kv_elements)

    def companions(self, n_ctx: int, kv_type: str) -> int:
        return self.facts.extra_bytes + self._kv(self.facts.extra_kv_elements, n_ctx, kv_type)

    def _loads(self, n_host_experts: int, n_ctx: int, kv_type: str) -> _Loads:
        """What layers weigh on devices with this context."""
        key = (n_ctx, kv_type)
        if key not in self._dense:
            kv = {one: self._kv(one, n_ctx, kv_type) for one in self.facts.kv_sizes}
            layers = (one.dense_bytes + kv[one.kv_elements] for one in self.facts.layers)
            output = self.facts.output_bytes - self._head_bytes
            self._dense[key] = list(accumulate((*layers, output), initial=0))
        if not self._experts:
            self._experts.extend(
                accumulate((one.expert_bytes for one in self.facts.layers), initial=0)
            )
            self._experts.append(self._experts[-1])  # the output has none
        return _Loads(self._dense[key], self._experts, n_host_experts)

    def _kv(self, elements: int, n_ctx: int, kv_type: str) -> int:
        padded = -(-n_ctx // CONTEXT_STEP) * CONTEXT_STEP
        return int(padded * elements * KV_BYTES_PER_ELEMENT[kv_type] * self.costs.kv_scale)

    def _compute(self, fixed: int, n_ctx: int) -> int:
        return fixed + self.costs.token_bytes * n_ctx
