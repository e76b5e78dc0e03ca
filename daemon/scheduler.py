"""Who may use which model, and when models come and go: events in, actions out.

Pure: no process, no clock, no lock. The supervisor feeds events and performs what comes back.
One resident stands for one loaded model, found by its `key` (the files that make it up), and goes

    LOADING ──loaded──► READY ──expired, evicted, asked──► UNLOADING ──reaped──► gone
       └──load failed──► UNLOADING                died ──────▲

Requests wait in one line. An older request that waits for room or for a larger context keeps newer
ones from prolonging what stands in its way, so nobody starves; a request for a model that is ready
overtakes everything else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from qm.store.errors import QmError

from .eviction import fewest
from .refusals import NotEnoughMemory, QueueFull, ShuttingDown


class State(StrEnum):
    """Where a resident is in its life."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"


@dataclass(frozen=True, slots=True)
class Need:
    """What a request asks of a loaded model.

    `n_ctx` tokens of context at least, or, where it is `automatic`, whatever a load without a wish
    for it gave; `size_bytes` is what a load for it would take of the host,
    `devices` of each GPU; `exact` holds load options that the client set and that can't be met by a
    model loaded otherwise.
    """

    n_ctx: int
    size_bytes: int
    exact: tuple[tuple[str, object], ...] = ()
    devices: tuple[tuple[str, int], ...] = ()
    automatic: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One use of a model, from asking to release. `keep_alive_s` counts from the release.

    `pinned`: the client asked for the model to stay, so that no other may push it out.
    """

    id: int
    key: str
    need: Need
    keep_alive_s: float
    client: str = ""
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """Start a runner for the need of `request`. Answer: loaded or load_failed."""

    key: str
    request: Request


@dataclass(frozen=True, slots=True)
class Unload:
    """End the runner of `key` and reap it. Answer: unloaded."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Request `request_id` may use the runner of `key` until it is released."""

    request_id: int
    key: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Request `request_id` ends with `error`."""

    request_id: int
    error: QmError


Action: TypeAlias = Load | Unload | Grant | Refuse


@dataclass(frozen=True, slots=True)
class Limits:
    """How much there may be at once; `max_loaded` 0 is no limit but memory."""

    max_queue: int = 512
    max_loaded: int = 0
    n_parallel: int = 1


@dataclass(slots=True)
class Resident:
    """One model in memory, or on its way in or out."""

    key: str
    need: Need  # what it was loaded for; n_ctx and size_bytes grow to what it really has
    state: State = State.LOADING
    users: dict[int, Request] = field(default_factory=dict)
    used_s: float = 0.0
    keep_alive_s: float = 0.0
    pinned: bool = False  # by the last who used it: no other model may push it out
    doomed: str = ""  # why it is unloaded once idle, whatever its keep_alive says

    @property
    def expires_s(self) -> float:
        """When it is unloaded, were it idle from `used_s` on; infinite for never."""
        return self.used_s + self.keep_alive_s

    @property
    def idle(self) -> bool:
        return self.state is State.READY and not self.users

    def serves(self, need: Need) -> bool:
        """Whether a request with this need can use it as it is loaded."""
        alike = need.automatic and self.need.automatic
        enough = alike or need.n_ctx <= self.need.n_ctx
        return enough and set(need.exact) <= set(self.need.exact)


class Scheduler:
    """All waiting requests and all residents; every method is one event."""

    def __init__(self, limits: Limits, capacity_bytes: int) -> None:
        self._limits = limits
        self._capacity_bytes = capacity_bytes
        self._device_bytes: dict[str, int] = {}
        self._closed = False
        self.waiting: list[Request] = []
        self.residents: dict[str, Resident] = {}

    # Events ---------------------------------------------------------------------------------

    def on_request(self, request: Request, now: float) -> list[Action]:
        if self._closed:
            return [Refuse(request.id, ShuttingDown())]
        full = len(self.waiting) >= self._limits.max_queue
        if full and request.key not in self.residents:
            return [Refuse(request.id, QueueFull(self._limits.max_queue))]
        self.waiting.append(request)
        actions = self._decide(now)
        if full and request in self.waiting:  # it could not be granted at once
            self.waiting.remove(request)
            actions.append(Refuse(request.id, QueueFull(self._limits.max_queue)))
        return actions

    def on_released(self, request_id: int, now: float) -> list[Action]:
        """The user is done with the runner, or has left the queue."""
        self.waiting = [one for one in self.waiting if one.id != request_id]
        for resident in self.residents.values():
            request = resident.users.pop(request_id, None)
            if request is not None:
                resident.used_s = now
                resident.keep_alive_s = request.keep_alive_s
                resident.pinned = request.pinned
        return self._decide(now)

    def on_loaded(self, key: str, n_ctx: int, size_bytes: int, now: float) -> list[Action]:
        """The runner answers; it has `n_ctx` tokens of context and took `size_bytes`."""
        resident = self.residents[key]
        if resident.state is State.LOADING:  # it may have died meanwhile
            need = resident.need
            resident.need = replace(need, n_ctx=n_ctx, size_bytes=size_bytes or need.size_bytes)
            resident.state = State.READY
            resident.used_s = now
        return self._decide(now)

    def on_load_failed(self, key: str, error: QmError, now: float) -> list[Action]:
        """Everyone who waits for this model hears why; its process is ended and reaped."""
        self.residents[key].state = State.UNLOADING
        refused: list[Action] = [Refuse(one.id, error) for one in self.waiting if one.key == key]
        self.waiting = [one for one in self.waiting if one.key != key]
        return [*refused, Unload(key, "load_failed"), *self._decide(now)]

    def on_died(self, key: str, now: float) -> list[Action]:
        """The process ended by itself; its users notice on their own, the waiting get a new one."""
        resident = self.residents.get(key)
        if resident is None or resident.state is not State.READY:
            return []
        return [self._unload(resident, "died"), *self._decide(now)]

    def on_unloaded(self, key: str, now: float) -> list[Action]:
        """The process is reaped and its memory is back."""
        del self.residents[key]
        return self._decide(now)

    def on_unload_asked(self, key: str, now: float) -> list[Action]:
        """Unload as soon as nobody uses it; who comes later waits for a fresh one."""
        resident = self.residents.get(key)
        if resident is not None:
            resident.doomed = "asked"
        return self._decide(now)

    def on_memory(
        self, capacity_bytes: int, now: float, devices: Mapping[str, int] | None = None
    ) -> list[Action]:
        """What models may take together of the host, and of some devices, were none loaded."""
        self._capacity_bytes = capacity_bytes
        self._device_bytes |= devices or {}
        return self._decide(now)

    def on_timer(self, now: float) -> list[Action]:
        return self._decide(now)

    def on_shutdown(self) -> list[Action]:
        """Refuse all who wait and all who come; those at work go on."""
        self._closed = True
        refused: list[Action] = [Refuse(one.id, ShuttingDown()) for one in self.waiting]
        self.waiting = []
        return refused

    def on_stop(self) -> list[Action]:
        """End every runner, also those at work; `on_shutdown` came before."""
        staying = [one for one in self.residents.values() if one.state is not State.UNLOADING]
        return [self._unload(one, "shutdown") for one in staying]

    # Answers --------------------------------------------------------------------------------

    def next_timer(self) -> float:
        """When `on_timer` is due; infinite for never."""
        return min((one.expires_s for one in self.residents.values() if one.idle), default=math.inf)

    def beside(self, key: str) -> list[Resident]:
        """The models but `key` that have memory, and are not about to give it back."""
        others = (one for one in self.residents.values() if one.key != key)
        return [one for one in others if one.state is not State.UNLOADING]

    @property
    def n_users(self) -> int:
        return sum(len(one.users) for one in self.residents.values())

    # Decisions ------------------------------------------------------------------------------

    def _decide(self, now: float) -> list[Action]:
        """Everything that can happen now, in the order of the line."""
        actions: list[Action] = []
        blocked: set[str] = set()  # models that must not get new users
        for request in self._in_turn():
            if request in self.waiting:
                actions += self._advance(request, blocked)
        return actions + self._expire(now)

    def _in_turn(self) -> list[Request]:
        """The line, model by model in order of arrival; within one, least busy clients first."""
        line: dict[str, list[Request]] = {}
        for request in self.waiting:
            line.setdefault(request.key, []).append(request)
        return [request for key in line for request in self._fair(key, line[key])]

    def _fair(self, key: str, requests: list[Request]) -> list[Request]:
        """Each request behind as many as its client has at work or ahead in the line."""
        if len(requests) == 1:
            return requests
        resident = self.residents.get(key)
        ahead = Counter(user.client for user in resident.users.values()) if resident else Counter()
        places: dict[int, int] = {}
        for request in requests:
            places[request.id] = ahead[request.client]
            ahead[request.client] += 1
        return sorted(requests, key=lambda request: places[request.id])

    def _advance(self, request: Request, blocked: set[str]) -> list[Action]:
        resident = self.residents.get(request.key)
        if resident is None:
            return self._make_room(request, blocked)
        if resident.state is not State.READY:
            return []
        if resident.doomed or not resident.serves(request.need):
            blocked.add(request.key)
            return [self._unload(resident, resident.doomed or "reload")] if resident.idle else []
        if request.key in blocked or len(resident.users) >= self._limits.n_parallel:
            return []
        resident.users[request.id] = request
        resident.keep_alive_s = request.keep_alive_s
        resident.pinned = request.pinned
        self.waiting.remove(request)
        return [Grant(request.id, request.key)]

    def _make_room(self, request: Request, blocked: set[str]) -> list[Action]:
        """Load when it fits; else unload what is idle, and let what is busy run dry."""
        leader = self._leader(request)
        need = leader.need
        victims = self._victims(need)
        if victims is None:
            self.waiting.remove(request)
            return [Refuse(request.id, self._too_large(need))]
        if not self._fits(need, ()):
            blocked.update(one.key for one in victims)
            return [self._unload(one, "evicted") for one in victims if one.idle]
        self.residents[request.key] = Resident(
            request.key, need, keep_alive_s=leader.keep_alive_s, pinned=leader.pinned
        )
        return [Load(request.key, leader)]

    def _leader(self, request: Request) -> Request:
        """Who asks for the largest context among those who want the model loaded like this."""
        alike = [one for one in self.waiting if one.key == request.key]
        alike = [one for one in alike if set(one.need.exact) == set(request.need.exact)]
        return max(alike, key=lambda one: one.need.n_ctx)

    def _victims(self, need: Need) -> list[Resident] | None:
        """The fewest residents whose end makes room, the least recently used of as many; None: it
        never fits.

        Idle ones do where they suffice, else busy ones run dry too; those kept forever come last of
        each, and pinned ones stay. One that still loads, or leaves already, is waited for.
        """
        going = [one for one in self.residents.values() if one.state is State.UNLOADING]
        if self._fits(need, going):
            return []
        loose = [one for one in self.residents.values() if not one.pinned]
        if not self._fits(need, {id(one): one for one in (*going, *loose)}.values()):
            return None
        ready = [one for one in loose if one.state is State.READY]
        order = sorted(
            ready, key=lambda one: (bool(one.users), one.keep_alive_s == math.inf, one.used_s)
        )
        idle = [one for one in order if one.idle]
        for choice in (idle, order):
            if self._fits(need, [*going, *choice]):
                return fewest(choice, lambda some: self._fits(need, [*going, *some]))
        return order  # what still loads must become ready first

    def _fits(self, need: Need, without: Iterable[Resident]) -> bool:
        """Whether there is room for `need` once `without` are gone."""
        gone = {one.key for one in without}
        staying = [one for one in self.residents.values() if one.key not in gone]
        most = self._limits.max_loaded
        used_bytes = sum(one.need.size_bytes for one in staying)
        return (
            (not most or len(staying) < most)
            and used_bytes + need.size_bytes <= self._capacity_bytes
            and all(self._has_room(device, size, staying) for device, size in need.devices)
        )

    def _has_room(self, device: str, size_bytes: int, staying: list[Resident]) -> bool:
        """A device that nobody else uses has room: the placement was made for it."""
        held = sum(dict(one.need.devices).get(device, 0) for one in staying)
        return not held or held + size_bytes <= self._device_bytes.get(device, 0)

    def _too_large(self, need: Need) -> NotEnoughMemory:
        pinned = sum(one.pinned for one in self.residents.values())
        if pinned and self._fits(need, self.residents.values()):
            return NotEnoughMemory(
                f"there is no room for the model beside {pinned} that keep_alive -1 keeps loaded; "
                "see qm ps, and unload with qm stop"
            )
        return NotEnoughMemory(
            f"the model needs {need.size_bytes >> 20} MiB with a context of {need.n_ctx} tokens; "
            f"{self._capacity_bytes >> 20} MiB are available; "
            "try a smaller num_ctx or a smaller quantisation"
        )

    def _expire(self, now: float) -> list[Action]:
        idle = [one for one in self.residents.values() if one.idle]
        return [
            self._unload(one, one.doomed or "expired")
            for one in idle
            if one.doomed or one.expires_s <= now
        ]

    def _unload(self, resident: Resident, reason: str) -> Unload:
        resident.state = State.UNLOADING
        return Unload(resident.key, reason)
