"""Loaded models: performs what the scheduler decides, with one runner process for each.

Everything here runs in the daemon's event loop, so state changes only between awaits: an event goes
into the scheduler, and the actions that come out are performed before anything else can happen.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from qm.modelfiles.model import Model
from qm.store.errors import QmError
from qm.store.layout import Layout

from . import logs
from .facts import ModelFacts
from .fit import target_context
from .hardware import Machine, read_machine
from .loaded import LoadBroken, LoadedModel, Process, exact_options, facts_of, need_of, runner_key
from .loader import Loader
from .meter import Meter
from .placing import Fit, host_needs
from .planner import Planner
from .prospects import Prospects
from .questions import Question
from .residents import Residents
from .runner.process import Runner
from .runner.wire import Options, Speculate
from .scheduler import (
    Action,
    Grant,
    Limits,
    Load,
    Need,
    Refuse,
    Request,
    Scheduler,
    State,
    Unload,
)
from .settings import Settings
from .spare import Spare, Spawn
from .ticket import Ticket, Use
from .turns import Board
from .watchdog import watch

_log = logs.Log("supervisor")


class Supervisor:
    """Gives out loaded models, loads and unloads them. Use it inside `running()`."""

    def __init__(
        self,
        settings: Settings,
        *,
        spawn: Spawn | None = None,
        machine: Callable[[], Machine] = read_machine,
        planner: Planner | None = None,
        meter: Meter | None = None,
        layout: Layout | None = None,
    ) -> None:
        self._meter = meter or Meter()
        self._settings = settings
        self._layout = layout or Layout(settings.home)
        self.board = Board()
        spawn = spawn or partial(Runner.spawn, board=self.board)
        self._quiet = asyncio.Event()  # nobody uses a runner
        self._quiet.set()
        self._left = asyncio.Event()  # nor reads what came from one
        self._left.set()
        self._spare = Spare(spawn, settings.log_file.parent, self._quiet)
        self._memory = Residents(machine, settings.memory_limit_bytes, settings.model_memory_bytes)
        self._planner = planner or Planner(settings, None, self._layout)
        self._loader = Loader(self._spare, self._planner, settings.load_timeout_s)
        limits = Limits(settings.max_queue, settings.max_loaded_models, settings.num_parallel)
        self._scheduler = Scheduler(limits, machine().available_bytes)
        self._tickets: dict[int, Ticket] = {}
        self._ids = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def prospects(self) -> Prospects:
        """What is told of placement to those who load nothing."""
        return Prospects(self._planner, self._memory)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Supervisor]:
        """Keeps a warm spare while open; at the end everything is stopped and reaped."""
        self._spare.warm()
        try:
            yield self
        finally:
            await self.shutdown()
            self.board.close()

    @asynccontextmanager
    async def use(
        self,
        model: Model,
        *,
        wishes: Options | None = None,
        keep_alive_s: float | None = None,
        client: str = "",
    ) -> AsyncIterator[Use]:
        """The model, loaded, while the context lasts; `wishes` are load options of who asks.

        Raises QueueFull, ShuttingDown, DoesNotFit, NotEnoughMemory, or what the load failed with.
        """
        asked_ns = time.monotonic_ns()
        ticket = await self._ticket(model, wishes or Options(), keep_alive_s, client)
        self._tickets[ticket.request.id] = ticket
        self._left.clear()
        try:
            if self._memory.get(ticket.request.key) is None:
                self._spare.warm()  # while others may have to be unloaded for it
            self._perform(self._scheduler.on_request(ticket.request, time.monotonic()))
            process = await ticket.granted
            assert process.runner is not None
            assert process.loaded is not None
            waited_ns = time.monotonic_ns() - asked_ns
            release = partial(self._release, ticket)
            yield Use(process.runner, process.loaded, process.fit.placement, waited_ns, release)
        finally:
            del self._tickets[ticket.request.id]
            if not self._tickets:
                self._left.set()
            self._release(ticket)

    async def unload(self, which: str) -> bool:
        """Unload the model of this name or digest; returns when its process is reaped.

        Answers that run are finished first. False: it was not loaded.
        """
        found = self._memory.called(which)
        for key, _ in found:
            self._perform(self._scheduler.on_unload_asked(key, time.monotonic()))
        for _, process in found:
            await process.gone.wait()
        return bool(found)

    def loaded(self) -> list[LoadedModel]:
        """What is in memory or on its way, the most recently used first."""
        residents = sorted(self._scheduler.residents.values(), key=lambda one: -one.used_s)
        return [self._memory[one.key].row(one, time.monotonic()) for one in residents]

    @property
    def n_users(self) -> int:
        """How many use a runner at the moment."""
        return self._scheduler.n_users

    @property
    def n_waiting(self) -> int:
        """How many wait for a runner."""
        return sum(not ticket.granted.done() for ticket in self._tickets.values())

    def store_moved(self) -> None:
        """Loads from now on find the store's new place by themselves; so must the planner."""
        self._planner.store_moved()

    def refuse(self) -> None:
        """From now on nothing is granted; who waits is told so."""
        self._perform(self._scheduler.on_shutdown())

    async def drained(self) -> None:
        """Returns once nobody uses a runner, or reads what came from one."""
        await self._left.wait()

    async def shutdown(self) -> None:
        """Refuse, stop and reap every process; who still uses one gets RunnerFailed."""
        self.refuse()
        self._closing = True
        self._perform(self._scheduler.on_stop())
        await self._spare.close()
        while self._tasks:
            await asyncio.wait(self._tasks)

    # Asking -----------------------------------------------------------------------------------

    async def _ticket(
        self, model: Model, wishes: Options, keep_alive_s: float | None, client: str
    ) -> Ticket:
        key, facts = runner_key(model), facts_of(model)
        n_layers, kv_types = len(facts.layers), self._planner.wanted.kv_types
        has_gpus = self._planner.may_have_gpus
        exact = exact_options(wishes, n_layers, kv_types, has_gpus=has_gpus)
        placed = self._placed(key, facts, wishes, exact) or await self._plan(model, wishes)
        request = Request(
            id=next(self._ids),
            key=key,
            need=need_of(placed, wishes, exact),
            keep_alive_s=self._settings.keep_alive_s if keep_alive_s is None else keep_alive_s,
            client=client,
            pinned=keep_alive_s == math.inf,
        )
        return Ticket(request, model, wishes, placed, asyncio.get_running_loop().create_future())

    async def _plan(self, model: Model, wishes: Options) -> Fit:
        question = self._question(model, wishes)
        available = self._memory.host().available_bytes
        placed = await self._planner.plan(question)
        rooms = {use.device: use.room_bytes for use in placed.uses[1:]}
        self._perform(self._scheduler.on_memory(available, time.monotonic(), rooms))
        return placed

    def _question(self, model: Model, wishes: Options, *, unloading: bool = True) -> Question:
        """Where the model would go beside others, of which some may be unloaded for it."""
        others = self._scheduler.beside(runner_key(model))
        staying = [one for one in others if one.pinned or not unloading]
        return replace(
            self._memory.question(model, wishes),
            staying=self._memory.staying(one.key for one in staying),
            others=self._memory.staying(one.key for one in others),
        )

    def _placed(
        self,
        key: str,
        facts: ModelFacts,
        wishes: Options,
        exact: tuple[tuple[str, object], ...],
    ) -> Fit | None:
        """The placement of a runner that serves these wishes as it is, if there is one."""
        process, resident = self._memory.get(key), self._scheduler.residents.get(key)
        if process is None or resident is None or resident.doomed:
            return None
        if resident.state is State.UNLOADING:
            return None
        n_ctx = target_context(facts, wishes, self._planner.wanted)
        if not resident.serves(Need(n_ctx, 0, exact, automatic=not wishes.num_ctx)):
            return None
        return replace(process.fit, target_n_ctx=n_ctx)

    # Performing -------------------------------------------------------------------------------

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Grant():
                    self._grant(action)
                case Refuse():
                    self._refuse(action)
                case Load():
                    self._begin_load(action)
                case Unload():
                    self._start(self._unload(action), f"unload {action.reason}")
        self._set_timer()
        if self._scheduler.n_users:
            self._quiet.clear()
        else:
            self._quiet.set()

    def _grant(self, grant: Grant) -> None:
        ticket, process = self._tickets[grant.request_id], self._memory[grant.key]
        process.model = ticket.model
        process.models[str(ticket.model.name)] = ticket.model
        if not ticket.granted.done():  # else its task was cancelled, and releases it right after
            ticket.granted.set_result(process)

    def _release(self, ticket: Ticket) -> None:
        if not ticket.released:
            ticket.released = True
            self._perform(self._scheduler.on_released(ticket.request.id, time.monotonic()))

    def _refuse(self, refuse: Refuse) -> None:
        ticket = self._tickets[refuse.request_id]
        if not ticket.granted.done():
            ticket.granted.set_exception(refuse.error)

    def _begin_load(self, load: Load) -> None:
        ticket = self._tickets[load.request.id]
        process = Process(
            ticket.model,
            ticket.fit,
            {str(ticket.model.name): ticket.model},
            kv_directory=self._layout.kv,
            kv_budget_bytes=self._settings.kv_cache_bytes,
            speculate=Speculate(self._settings.speculate),
        )
        question = self._question(ticket.model, ticket.wishes, unloading=False)
        self._memory.add(load.key, process)
        process.loading = self._start(
            self._load(load.key, process, question), f"load {ticket.model.name}"
        )

    async def _load(self, key: str, process: Process, question: Question) -> None:
        """Rim: whatever goes wrong here becomes the error that those who wait get."""
        name = str(process.model.name)
        _log.info("model_loading", model=name, n_ctx=process.fit.placement.n_ctx)
        begun = time.monotonic()
        try:
            await asyncio.to_thread(process.hold_files, self._layout)
            await self._loader.load(process, question)
        except QmError as error:
            self._load_failed(key, name, error)
        except Exception as error:  # noqa: BLE001  a rim: the daemon goes on
            _log.exception("load_broke", model=name)
            self._load_failed(key, name, LoadBroken(f"loading model '{name}' failed: {error}"))
        else:
            self._loaded(key, process, time.monotonic() - begun)
        if not self._closing:
            self._spare.warm_later()

    def _loaded(self, key: str, process: Process, took_s: float) -> None:
        assert process.runner is not None
        assert process.loaded is not None
        predicted, actual = process.fit.predicted_bytes, process.actual_bytes
        _log.info(
            "model_loaded",
            model=process.model.name,
            pid=process.runner.pid,
            seconds=took_s,
            n_ctx=process.loaded.n_ctx,
            predicted_bytes=predicted,
            actual_bytes=actual,
        )
        self._meter.count("qm_loads_total", model=str(process.model.name))
        taken = {one.device: one.actual_bytes or 0 for one in process.devices()}
        self._planner.learn(process.fit, taken)
        size_bytes = host_needs(process.uses if actual else process.fit.uses)
        n_ctx = process.fit.placement.n_ctx
        self._perform(self._scheduler.on_loaded(key, n_ctx, size_bytes, time.monotonic()))
        process.runner.exited.add_done_callback(lambda exited: self._died(key, process, exited))
        watching = watch(process.runner, workers=process.fit.placement.rpc_servers)
        self._start(watching, f"watch {process.model.name}")

    def _load_failed(self, key: str, name: str, error: QmError) -> None:
        _log.warning("load_failed", model=name, code=error.code, error=error)
        self._meter.count("qm_load_failures_total", code=error.code)
        self._perform(self._scheduler.on_load_failed(key, error, time.monotonic()))

    def _died(self, key: str, process: Process, exited: asyncio.Future[int]) -> None:
        if self._memory.get(key) is not process or exited.cancelled():
            return
        actions = self._scheduler.on_died(key, time.monotonic())
        if actions:
            self._meter.count("qm_runner_deaths_total")
            _log.error("runner_died", model=process.model.name, status=exited.result())
        self._perform(actions)

    async def _unload(self, unload: Unload) -> None:
        process = self._memory[unload.key]
        self._meter.count("qm_unloads_total", reason=unload.reason)
        _log.info("model_unloading", model=process.model.name, reason=unload.reason)
        before_bytes, own_bytes = self._memory.taken(process)
        try:
            await process.end()
        except QmError as error:  # it can't even be killed; its memory is lost until it goes
            _log.error("unload_failed", model=process.model.name, error=error)
        else:
            wanted_bytes = self._wanted_bytes()
            await self._memory.wait_until_back(process, before_bytes, own_bytes, wanted_bytes)
        await self._planner.wait_until_free(process.fit)
        self._memory.remove(unload.key)
        process.gone.set()
        process.files.close()
        _log.info("model_unloaded", model=process.model.name)
        self._perform(self._scheduler.on_unloaded(unload.key, time.monotonic()))

    def _wanted_bytes(self) -> int:
        """What the host must have for all models that somebody waits for."""
        waiting = [one for one in self._tickets.values() if not one.granted.done()]
        needs = {one.request.key: one.fit.needed_bytes for one in waiting}
        return sum(needs.values())

    # Tasks and time ---------------------------------------------------------------------------

    def _start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._scheduler.next_timer()
        if due != math.inf and not self._closing:
            delay = max(0.0, due - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._perform(self._scheduler.on_timer(time.monotonic()))
