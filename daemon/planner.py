"""Decides where a model goes: asks for devices, fits, has llama.cpp check it, and fits again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from qm.store.layout import Layout

from . import logs
from .accounts import corrected, fits, told_apart, with_account
from .budgets import budget_of
from .devices import RPC, BufferBytes, Device, Devices
from .fit import fit, n_ubatch, target_context
from .learning import Learning
from .lessons import Lessons
from .mapping import as_mapped
from .measured import Measurements, measure_key
from .outlook import Alternatives, Outlook
from .placing import DoesNotFit, Fit, NoSuchDevice, Room, Wanted
from .prober import Probe, ProbeFailed
from .questions import NOBODY, Question, with_whole_rooms
from .runner.wire import Placement
from .settings import Settings

_log = logs.Log("planner")
_FREE_LIMIT_S = 5.0  # for a driver to give an ended process's memory back
_FREE_STEP_S = 0.05
_NEARLY = 32 << 20
_ROUNDS = 6  # fits that are checked by a dry run; it settles in two of each kind


class Planner:
    """Answers questions about placement; keeps what llama.cpp said."""

    def __init__(
        self, settings: Settings, probe: Probe | None, layout: Layout | None = None
    ) -> None:
        self._settings = settings
        # What holds where a request's options say nothing.
        self.wanted = Wanted(settings.context_length, settings.num_parallel, settings.kv_types)
        self._probe = probe
        self._layout = layout or Layout(settings.home)
        self._devices: Devices | None = None
        self._measurements: dict[str, Measurements] = {}
        self._lessons = Lessons(self._layout.facts / "devices.json")

    def store_moved(self) -> None:
        """What was learned is read again from where it is now."""
        self._measurements.clear()
        self._lessons = Lessons(self._layout.facts / "devices.json")

    @property
    def may_have_gpus(self) -> bool:
        """False once it is known that there are none."""
        return self._devices is None or bool(self._devices.gpus or self._settings.rpc)

    async def plan(self, question: Question) -> Fit:
        """The best placement that llama.cpp agrees with. Raises DoesNotFit, NoSuchDevice.

        Where one that needs nobody unloaded is as good, it is that one.
        """
        async with self._asking():
            devices = await self._current(question.held)
            found = await self._settled(question, devices)
        return with_whole_rooms(found, self.rooms(devices, question.beside_none))

    async def _settled(self, question: Question, devices: Devices) -> Fit:
        try:
            best = await self._planned(question, devices)
        except DoesNotFit:
            if question.staying == NOBODY:
                raise
            return await self._planned(question.beside_none, devices)  # and who stays is told
        if question.others == question.staying:
            return best
        beside = question.beside_all
        try:
            if self._guess(beside, devices).rank < best.rank:
                return best
            found = await self._planned(beside, devices)
        except DoesNotFit:
            return best
        return found if found.rank >= best.rank else best

    def _guess(self, question: Question, devices: Devices) -> Fit:
        """A placement by our own count alone. Raises DoesNotFit, NoSuchDevice."""
        rooms = self.rooms(devices, question)
        return fit(question.facts, question.host, question.wishes, self.wanted, rooms=rooms)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Lets remote servers go at the end."""
        try:
            yield
        finally:
            if self._probe is not None:
                await self._probe.release()

    async def _planned(self, question: Question, devices: Devices) -> Fit:
        rooms = self.rooms(devices, question)
        wishes, facts, machine = question.wishes, question.facts, question.host
        n_parallel = wishes.num_parallel or self.wanted.n_parallel
        costs = Learning(facts, n_ubatch(facts, wishes, self.wanted), n_parallel)
        best: Fit | None = None
        refused: DoesNotFit | None = None
        seen: list[Placement] = []
        for _ in range(_ROUNDS):
            try:
                found = fit(
                    *(facts, machine, wishes, self.wanted),
                    rooms=rooms,
                    costs=costs.of(headless=False),
                    headless_costs=costs.of(headless=True),
                )
            except DoesNotFit as error:
                refused = error
                break
            if found.placement in seen:
                break
            seen.append(found.placement)
            buffers = await self._account(question, found.placement, devices)
            if not buffers:
                return best or as_mapped(found, facts)
            facts, buffers, drafted = told_apart(found, facts, buffers)
            checked = with_account(found, facts, buffers, drafted)
            if fits(checked, machine.available_bytes) and (not best or checked.rank > best.rank):
                best = checked
            headless = found.head_on_host
            told = corrected(found, facts, costs.of(headless=headless), buffers)
            costs.learn(told, headless=headless, may_fall=best is not None)
        if best is None:
            raise refused or DoesNotFit(
                "no placement was found that llama.cpp's dry run agrees with"
            )
        return best

    async def outlook(self, question: Question) -> Outlook:
        """The placement, how far its context could grow, and which quantisations would fit.

        Raises DoesNotFit, which then tells what would.
        """
        async with self._asking():
            devices = await self._current(question.held)
            others = Alternatives(question, self.rooms(devices, question), self.wanted)
            try:
                found = await self._planned(question, devices)
            except DoesNotFit as error:
                raise DoesNotFit(f"{error.message}. {others.told()}") from error
        return Outlook(found, others.longest(found), others.quants(), devices)

    def context_of(self, question: Question) -> int:
        """The context of a placement, by what is known of the devices and by our own count."""
        try:
            found = self._guess(question, self._devices or Devices(()))
        except (DoesNotFit, NoSuchDevice):
            return target_context(question.facts, question.wishes, self.wanted)
        return found.placement.n_ctx

    async def devices(self, held: Mapping[str, int] | None = None) -> Devices:
        """What there is now."""
        async with self._asking():
            return await self._current(held)

    async def _current(self, held: Mapping[str, int] | None) -> Devices:
        """What there is now; a machine without GPUs is asked once.

        A remote server talks to one runner at a time, so one that is in use is not asked again.
        """
        known = self._devices
        if self._probe is None:
            return Devices(())
        busy = known is not None and any(
            device.endpoint and (held or {}).get(device.name) for device in known.gpus
        )
        if known is not None and (busy or not (known.gpus or self._settings.rpc)):
            return known
        try:
            found = await self._asked_twice(self._probe)
        except ProbeFailed as error:
            _log.warning("devices_unknown", error=error)
            return Devices((), missing=tuple((one, error.message) for one in self._settings.rpc))
        self._devices = found
        return found

    async def _asked_twice(self, probe: Probe) -> Devices:
        """A server that goes while it is asked takes the probe with it; then it is known to be."""
        try:
            return await probe.devices(self._settings.rpc)
        except ProbeFailed:
            return await probe.devices(self._settings.rpc)

    def rooms(self, devices: Devices, question: Question) -> tuple[Room, ...]:
        """What a model may take of each GPU, were nothing of ours there but what stays."""
        rooms = self.all_rooms(devices, question.held, question.spared, question.budgets)
        return tuple(map(question.staying.left_of, rooms))

    def all_rooms(
        self,
        devices: Devices,
        held: Mapping[str, int],
        spared: Mapping[str, int] | None = None,
        budgets: Mapping[str, int] | None = None,
    ) -> tuple[Room, ...]:
        """The same for no model in particular."""
        budgets = self._settings.gpu_memory if budgets is None else budgets
        rooms = []
        for device in devices.gpus:
            free = min(device.total_bytes, device.free_bytes + _held(device, held))
            room = free - self._settings.gpu_reserve_bytes
            budget = budget_of(device, budgets)
            taken = self._lessons.extra_bytes(_known_as(device))
            taken += (spared or {}).get(device.name, 0)
            left = max(0, (room if budget is None else min(room, budget)) - taken)
            shares_host, maps_files = device.shares_host, device.maps_files
            rooms.append(Room(device.name, left, free, device.remote, shares_host, maps_files))
        return tuple(rooms)

    def forget_devices(self) -> None:
        """Ask anew the next time: one of them has failed."""
        self._devices = None

    def learn(self, found: Fit, actual: Mapping[str, int]) -> None:
        """Remembers what devices took beyond the prediction."""
        devices = self._devices.gpus if self._devices else ()
        names = {device.name: _known_as(device) for device in devices}
        self._lessons.learn(
            {
                names[use.device]: actual[use.device] - use.total_bytes
                for use in found.uses[1:]
                if use.device in actual and use.device in names
            }
        )

    def fell_short(self, spared: Mapping[str, int]) -> None:
        """Remembers room that a load was promised and did not get."""
        devices = self._devices.gpus if self._devices else ()
        self._lessons.fell_short(
            {_known_as(one): spared[one.name] for one in devices if one.name in spared}
        )

    async def wait_until_free(self, found: Fit) -> None:
        """Returns once the devices of an ended runner have their memory back, or after a while.

        Remote ones are not asked: they tell what their host has, to one client at a time.
        """
        local = [use for use in found.uses[1:] if not _is_remote(use.device, self._devices)]
        if self._probe is None or not local:
            return
        deadline = time.monotonic() + _FREE_LIMIT_S
        while time.monotonic() < deadline:
            try:
                now = await self._probe.devices(())
            except ProbeFailed:
                return
            free = {device.name: device.free_bytes for device in now.devices}
            if all(free.get(use.device, 0) + _NEARLY >= use.free_bytes for use in local):
                return
            await asyncio.sleep(_FREE_STEP_S)

    async def _account(
        self, question: Question, placement: Placement, devices: Devices
    ) -> tuple[BufferBytes, ...]:
        """llama.cpp's dry run of this placement, or an earlier one; nothing when it can't tell."""
        model = question.model
        if self._probe is None or model is None:
            return ()
        embedding = "embedding" in model.capabilities
        projector = str(model.projectors[0]) if model.projectors else None
        draft = str(model.draft) if model.draft and not embedding else None
        key = measure_key(placement, devices, embedding=embedding, projector=projector, draft=draft)
        known = self._measurements_of(model.weights_digest)
        buffers = known.get(key)
        if buffers is not None or self._in_use(placement, question):
            return buffers or ()
        try:
            weights = tuple(map(str, model.weights))
            buffers = await self._probe.measure(
                weights, placement, embedding=embedding, projector=projector, draft=draft
            )
        except ProbeFailed as error:
            _log.warning("not_measured", model=model.name, error=error)
            return ()
        if buffers:
            known.put(key, buffers)
        return buffers

    def _in_use(self, placement: Placement, question: Question) -> bool:
        """Whether a remote server would keep the probe waiting."""
        return bool(placement.rpc_servers) and any(
            question.held.get(name) for name in placement.devices
        )

    def _measurements_of(self, digest: str) -> Measurements:
        known = self._measurements.get(digest)
        if known is None:
            known = self._measurements[digest] = Measurements(self._layout.facts_of(digest))
        return known


def _known_as(device: Device) -> str:
    """What a device is remembered by: remote ones are numbered anew each time."""
    return device.buffer or device.name


def _is_remote(name: str, devices: Devices | None) -> bool:
    return any(one.name == name and one.endpoint for one in (devices.gpus if devices else ()))


def _held(device: Device, held: Mapping[str, int]) -> int:
    return held.get(device.name, 0) if device.backend != RPC else 0
