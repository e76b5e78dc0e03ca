"""The scheduler under any order of events."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from qm.daemon.scheduler import (
    Action,
    Grant,
    Limits,
    Load,
    Refuse,
    Scheduler,
    Unload,
)
from qm.store.errors import QmError

from .test_scheduler import request


class Chaos(RuleBasedStateMachine):
    """Any order of events keeps the promises."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(max_queue=4, max_loaded=2, n_parallel=2)
        self.one = Scheduler(self.limits, capacity_bytes=25)
        self.now = 0.0
        self.ids = 0
        self.open: set[int] = set()  # asked, neither refused nor released
        self.granted: dict[int, str] = {}
        self.loading: set[str] = set()
        self.ready: set[str] = set()
        self.unloading: set[str] = set()

    def perform(self, actions: list[Action]) -> None:
        self.now += 1
        for action in actions:
            match action:
                case Load():
                    assert action.key not in self.loading | self.ready | self.unloading
                    self.loading.add(action.key)
                case Unload():
                    assert action.key in self.loading | self.ready
                    assert action.reason in ("died", "load_failed") or (
                        action.key not in self.granted.values()
                    ), "a busy runner was unloaded"
                    self.loading.discard(action.key)
                    self.ready.discard(action.key)
                    self.unloading.add(action.key)
                case Grant():
                    assert action.key in self.ready
                    assert action.request_id in self.open
                    assert action.request_id not in self.granted
                    self.granted[action.request_id] = action.key
                case Refuse():
                    self.open.remove(action.request_id)

    @rule(
        key=st.sampled_from("abc"),
        n_ctx=st.sampled_from([512, 4096]),
        keep_alive_s=st.sampled_from([0.0, 3.0, math.inf]),
        client=st.sampled_from(["x", "y"]),
    )
    def ask(self, key: str, n_ctx: int, keep_alive_s: float, client: str) -> None:
        self.ids += 1
        self.open.add(self.ids)
        asked = request(self.ids, key, n_ctx=n_ctx, keep_alive_s=keep_alive_s, client=client)
        self.perform(self.one.on_request(asked, self.now))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.open)))
        self.open.discard(number)
        self.granted.pop(number, None)
        self.perform(self.one.on_released(number, self.now))

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), works=st.booleans())
    def finish_load(self, data: st.DataObject, works: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.loading)))
        if works:
            self.loading.discard(key)
            self.ready.add(key)
            self.perform(self.one.on_loaded(key, 512, 10, self.now))
        else:
            self.perform(self.one.on_load_failed(key, QmError("no"), self.now))

    @precondition(lambda self: self.unloading)
    @rule(data=st.data())
    def reap(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.unloading)))
        self.unloading.discard(key)
        over = {number for number, one in self.granted.items() if one == key}
        self.open -= over  # their runner is gone, and they with it
        self.granted = {number: one for number, one in self.granted.items() if one != key}
        self.perform(self.one.on_unloaded(key, self.now))

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.perform(self.one.on_died(data.draw(st.sampled_from(sorted(self.ready))), self.now))

    @rule(key=st.sampled_from("abc"))
    def stop_model(self, key: str) -> None:
        self.perform(self.one.on_unload_asked(key, self.now))

    @rule()
    def tick(self) -> None:
        self.perform(self.one.on_timer(self.now))

    @invariant()
    def limits_hold(self) -> None:
        assert len(self.loading | self.ready | self.unloading) <= self.limits.max_loaded
        assert len(self.one.waiting) <= self.limits.max_queue
        for key in self.ready:
            users = [one for one in self.granted.values() if one == key]
            assert len(users) <= self.limits.n_parallel

    @invariant()
    def nobody_is_lost(self) -> None:
        """Who is neither granted nor refused waits, and something will happen for him."""
        waiting = {one.id for one in self.one.waiting}
        assert self.open - set(self.granted) <= waiting
        if waiting:
            assert self.loading or self.unloading or self.granted


TestChaos = Chaos.TestCase
TestChaos.settings = settings(max_examples=60, stateful_step_count=30)
