"""The scheduler's rules, without any process or clock."""

from __future__ import annotations

import math
from dataclasses import replace

from qm.daemon.refusals import NotEnoughMemory, QueueFull, ShuttingDown
from qm.daemon.scheduler import (
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
from qm.store.errors import QmError


def request(
    number: int,
    key: str = "a",
    *,
    n_ctx: int = 4096,
    size: int = 10,
    keep_alive_s: float = 300,
    client: str = "",
    exact: tuple[tuple[str, object], ...] = (),
    devices: tuple[tuple[str, int], ...] = (),
) -> Request:
    return Request(number, key, Need(n_ctx, size, exact, devices), keep_alive_s, client)


def scheduler(
    *, capacity: int = 100, n_parallel: int = 2, max_loaded: int = 0, max_queue: int = 512
) -> Scheduler:
    return Scheduler(Limits(max_queue, max_loaded, n_parallel), capacity)


def load(one: Scheduler, asked: Request, now: float = 0) -> None:
    """Bring a model to READY with `asked` using it."""
    assert Load(asked.key, asked) in one.on_request(asked, now)
    actions = one.on_loaded(asked.key, asked.need.n_ctx, asked.need.size_bytes, now)
    assert Grant(asked.id, asked.key) in actions


def kinds(actions: list[Action]) -> list[type[Action]]:
    return [type(action) for action in actions]


def test_the_first_request_loads_and_is_granted_when_loaded() -> None:
    """Nothing is granted before the runner answers."""
    one = scheduler()
    asked = request(1)
    assert one.on_request(asked, 0) == [Load("a", asked)]
    assert one.on_loaded("a", 4096, 10, 1) == [Grant(1, "a")]


def test_requests_share_a_runner_up_to_its_parallel_count() -> None:
    """The next one waits, and gets in when one leaves."""
    one = scheduler(n_parallel=2)
    load(one, request(1))
    assert one.on_request(request(2), 1) == [Grant(2, "a")]
    assert one.on_request(request(3), 1) == []
    assert one.on_released(1, 2) == [Grant(3, "a")]


def test_models_load_side_by_side() -> None:
    """One model's load keeps nobody from the other."""
    one = scheduler()
    load(one, request(1, "a"))
    b = request(2, "b")
    assert one.on_request(b, 1) == [Load("b", b)]
    assert one.on_request(request(3, "a"), 1) == [Grant(3, "a")]


def test_an_idle_model_expires_after_its_last_users_keep_alive() -> None:
    """Counted from the release."""
    one = scheduler()
    load(one, request(1, keep_alive_s=60), now=0)
    assert one.next_timer() == math.inf
    one.on_released(1, 100)
    assert one.next_timer() == 160
    assert one.on_timer(159.9) == []
    assert one.on_timer(160) == [Unload("a", "expired")]


def test_keep_alive_zero_unloads_at_once() -> None:
    """And a busy neighbour of the same runner keeps it."""
    one = scheduler()
    load(one, request(1, keep_alive_s=300))
    one.on_request(request(2, keep_alive_s=0), 1)
    assert one.on_released(2, 2) == []
    assert one.on_released(1, 3) == []
    one.on_request(request(3, keep_alive_s=0), 4)
    assert one.on_released(3, 5) == [Unload("a", "expired")]


def test_keep_alive_forever_never_expires() -> None:
    """No timer is set for it."""
    one = scheduler()
    load(one, request(1, keep_alive_s=math.inf))
    one.on_released(1, 1)
    assert one.next_timer() == math.inf
    assert one.on_timer(1e12) == []


def test_the_least_recently_used_idle_model_makes_room() -> None:
    """And the load waits until its process is reaped."""
    one = scheduler(capacity=25)
    load(one, request(1, "a"), 0)
    load(one, request(2, "b"), 1)
    one.on_released(1, 5)
    one.on_released(2, 4)
    c = request(3, "c")
    assert one.on_request(c, 6) == [Unload("b", "evicted")]
    assert one.on_unloaded("b", 7) == [Load("c", c)]


def test_no_more_is_evicted_than_is_needed() -> None:
    """One large model goes rather than it and a small one that was used before it."""
    one = scheduler(capacity=30)
    load(one, request(1, "small", size=5), 0)
    load(one, request(2, "large", size=20), 1)
    one.on_released(1, 2)
    one.on_released(2, 3)
    assert one.on_request(request(3, "new", size=20), 4) == [Unload("large", "evicted")]


def test_a_kept_model_goes_last() -> None:
    """Forever means: not before the others."""
    one = scheduler(capacity=25)
    load(one, request(1, "kept", keep_alive_s=math.inf), 0)
    load(one, request(2, "other"), 1)
    one.on_released(1, 2)
    one.on_released(2, 3)
    assert one.on_request(request(3, "new"), 4) == [Unload("other", "evicted")]


def test_the_fewest_are_evicted() -> None:
    """One that was used later rather than two that were used before it."""
    one = scheduler(capacity=40)
    for number, (key, size) in enumerate((("a", 10), ("b", 10), ("large", 20))):
        load(one, request(number, key, size=size), number)
        one.on_released(number, number)
    assert one.on_request(request(9, "new", size=20), 9) == [Unload("large", "evicted")]


def test_a_pinned_model_makes_room_for_nobody() -> None:
    """Who asks for another hears why; the pin goes with the next use that sets none."""
    one = scheduler(capacity=15)
    pinned = replace(request(1, "kept", keep_alive_s=math.inf), pinned=True)
    load(one, pinned, 0)
    one.on_released(1, 1)
    (refused,) = one.on_request(request(2, "new"), 2)
    assert isinstance(refused, Refuse)
    assert isinstance(refused.error, NotEnoughMemory)
    assert "keep_alive -1" in str(refused.error)
    assert one.on_request(request(3, "kept"), 3) == [Grant(3, "kept")]
    one.on_released(3, 4)
    assert one.on_request(request(4, "new"), 5) == [Unload("kept", "evicted")]


def test_a_busy_model_is_never_evicted_but_gets_no_new_users() -> None:
    """Else a stream of requests would keep the other model out for ever."""
    one = scheduler(capacity=15)
    load(one, request(1, "a"), 0)
    b = request(2, "b")
    assert one.on_request(b, 1) == []
    assert one.on_request(request(3, "a"), 2) == []
    assert one.on_released(1, 3) == [Unload("a", "evicted")]
    assert one.on_unloaded("a", 4) == [Load("b", b)]


def test_models_share_a_gpu_while_both_fit() -> None:
    """What each takes of it is counted, apart from the host's memory."""
    one = scheduler()
    one.on_memory(100, 0, {"GPU0": 10})
    load(one, request(1, "a", devices=(("GPU0", 6),)), 0)
    load(one, request(2, "b", devices=(("GPU0", 4),)), 1)
    one.on_released(1, 2)
    third = request(3, "c", devices=(("GPU0", 5),))
    assert one.on_request(third, 3) == [Unload("a", "evicted")]
    assert one.on_unloaded("a", 4) == [Load("c", third)]


def test_a_gpu_that_shrank_refuses_nobody() -> None:
    """A placement was made for it; once it is empty the load tells whether that still holds."""
    one = scheduler()
    one.on_memory(100, 0, {"GPU0": 3})
    asked = request(1, "a", devices=(("GPU0", 6),))
    assert one.on_request(asked, 0) == [Load("a", asked)]


def test_max_loaded_models_counts() -> None:
    """Memory or not."""
    one = scheduler(max_loaded=1)
    load(one, request(1, "a"), 0)
    one.on_released(1, 1)
    assert one.on_request(request(2, "b"), 2) == [Unload("a", "evicted")]


def test_what_never_fits_is_refused_with_the_numbers() -> None:
    """Nobody is evicted for it."""
    one = scheduler(capacity=50 << 20)
    load(one, request(1, "a"), 0)
    one.on_released(1, 1)
    (refused,) = one.on_request(request(2, "b", size=100 << 20), 2)
    assert isinstance(refused, Refuse)
    assert isinstance(refused.error, NotEnoughMemory)
    assert "100 MiB" in str(refused.error)
    assert "50 MiB" in str(refused.error)
    assert one.residents["a"].state is State.READY


def test_memory_that_comes_back_lets_the_next_load_in() -> None:
    """The capacity is measured anew for each request."""
    one = scheduler(capacity=5)
    assert kinds(one.on_request(request(1), 0)) == [Refuse]
    one.on_memory(50, 1)
    assert kinds(one.on_request(request(2), 2)) == [Load]


def test_the_queue_is_bounded() -> None:
    """All who wait count, also those for a loaded model."""
    one = scheduler(n_parallel=1, max_queue=2)
    load(one, request(1))
    one.on_request(request(2), 1)
    one.on_request(request(3), 1)
    (refused,) = one.on_request(request(4), 1)
    assert isinstance(refused, Refuse)
    assert isinstance(refused.error, QueueFull)
    assert "2 requests" in str(refused.error)
    (refused,) = one.on_request(request(5, "other"), 1)
    assert isinstance(refused, Refuse)
    assert "other" not in one.residents


def test_who_leaves_the_queue_makes_room_in_it() -> None:
    """A client that hangs up while it waits takes no slot later."""
    one = scheduler(n_parallel=1, max_queue=1)
    load(one, request(1))
    one.on_request(request(2), 1)
    assert one.on_released(2, 2) == []
    assert one.on_request(request(3), 3) == []
    assert one.on_released(1, 4) == [Grant(3, "a")]


def test_a_smaller_context_shares_the_loaded_one() -> None:
    """Chat with 8192 and completion with 2048 must not reload each other."""
    one = scheduler()
    load(one, request(1, n_ctx=8192))
    assert one.on_request(request(2, n_ctx=2048), 1) == [Grant(2, "a")]


def test_a_context_that_nobody_named_serves_who_names_none() -> None:
    """Whatever memory allowed; but it is no more than it is for who names a larger one."""
    one = scheduler()
    automatic = replace(request(1), need=Need(8192, 10, automatic=True))
    one.on_request(automatic, 0)
    one.on_loaded("a", 5000, 10, 1)
    assert one.residents["a"].serves(Need(8192, 10, automatic=True))
    assert one.residents["a"].serves(Need(5000, 10))
    assert not one.residents["a"].serves(Need(6000, 10))


def test_a_larger_context_reloads_once_the_runner_is_idle() -> None:
    """Who came before is served first, who comes after waits for the larger one."""
    one = scheduler()
    load(one, request(1, n_ctx=2048))
    large, small = request(2, n_ctx=8192), request(3, n_ctx=2048)
    assert one.on_request(large, 1) == []
    assert one.on_request(small, 1) == []
    assert one.on_released(1, 2) == [Unload("a", "reload")]
    assert one.on_unloaded("a", 3) == [Load("a", large)]
    assert one.on_loaded("a", 8192, 10, 4) == [Grant(2, "a"), Grant(3, "a")]


def test_one_load_serves_the_largest_context_that_waits() -> None:
    """Instead of loading twice."""
    one = scheduler(capacity=15)
    load(one, request(1, "other"), 0)
    small, large = request(2, n_ctx=2048), request(3, n_ctx=8192)
    one.on_request(small, 1)
    one.on_request(large, 1)
    one.on_released(1, 2)
    assert one.on_unloaded("other", 3) == [Load("a", large)]


def test_a_different_kv_type_reloads() -> None:
    """What a client set explicitly holds."""
    one = scheduler()
    load(one, request(1))
    one.on_released(1, 1)
    asked = request(2, exact=(("kv_type", "q8_0"),))
    assert one.on_request(asked, 2) == [Unload("a", "reload")]
    assert one.on_unloaded("a", 3) == [Load("a", asked)]
    one.on_loaded("a", 4096, 10, 4)
    assert one.on_request(request(3), 5) == [Grant(3, "a")]


def test_a_failed_load_is_told_to_all_who_wait_for_it() -> None:
    """And its process is reaped before anybody tries again."""
    one = scheduler()
    one.on_request(request(1), 0)
    one.on_request(request(2), 0)
    error = QmError("no")
    actions = one.on_load_failed("a", error, 1)
    assert actions == [Refuse(1, error), Refuse(2, error), Unload("a", "load_failed")]
    asked = request(3)
    assert one.on_request(asked, 2) == []
    assert one.on_unloaded("a", 3) == [Load("a", asked)]


def test_a_dead_runner_is_reaped_and_loaded_anew_for_those_who_wait() -> None:
    """Its users learn of it from their own stream."""
    one = scheduler(n_parallel=1)
    load(one, request(1))
    waiting = request(2)
    one.on_request(waiting, 1)
    assert one.on_died("a", 2) == [Unload("a", "died")]
    assert one.on_released(1, 2) == []
    assert one.on_unloaded("a", 3) == [Load("a", waiting)]


def test_death_while_it_is_unloaded_anyway_changes_nothing() -> None:
    """The end of a process is no event of its own then."""
    one = scheduler()
    load(one, request(1, keep_alive_s=0))
    one.on_released(1, 1)
    assert one.on_died("a", 2) == []
    assert one.on_unloaded("a", 3) == []
    assert one.on_died("a", 4) == []


def test_an_asked_unload_waits_for_running_answers() -> None:
    """Who asks for the model meanwhile gets it fresh."""
    one = scheduler()
    load(one, request(1))
    assert one.on_unload_asked("a", 1) == []
    later = request(2)
    assert one.on_request(later, 2) == []
    assert one.on_released(1, 3) == [Unload("a", "asked")]
    assert one.on_unloaded("a", 4) == [Load("a", later)]


def test_an_idle_model_is_unloaded_when_asked() -> None:
    """At once, and an unknown one is no error."""
    one = scheduler()
    load(one, request(1, keep_alive_s=math.inf))
    one.on_released(1, 1)
    assert one.on_unload_asked("a", 2) == [Unload("a", "asked")]
    assert one.on_unload_asked("b", 3) == []


def test_a_busy_client_does_not_keep_others_out() -> None:
    """The one with fewer requests at work comes first."""
    one = scheduler(n_parallel=2)
    load(one, request(1, client="greedy"))
    for number in (2, 3, 4):
        one.on_request(request(number, client="greedy"), 1)
    one.on_request(request(5, client="modest"), 2)
    assert one.on_released(1, 3) == [Grant(5, "a")]
    assert one.on_released(2, 4) == [Grant(3, "a")]


def test_shutdown_refuses_and_stop_ends_all() -> None:
    """Those at work go on until then."""
    one = scheduler(n_parallel=1)
    load(one, request(1))
    one.on_request(request(2), 1)
    (refused,) = one.on_shutdown()
    assert isinstance(refused, Refuse)
    assert isinstance(refused.error, ShuttingDown)
    assert kinds(one.on_request(request(3), 2)) == [Refuse]
    assert one.n_users == 1
    assert one.on_stop() == [Unload("a", "shutdown")]
    assert one.on_stop() == []
