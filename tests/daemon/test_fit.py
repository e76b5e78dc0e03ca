"""Placement: what goes where, and which context fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from qm.daemon.facts import LayerFacts, ModelFacts, model_facts
from qm.daemon.fit import HEAD, fit, n_ubatch
from qm.daemon.hardware import Machine
from qm.daemon.packing import KV_BYTES_PER_ELEMENT
from qm.daemon.placing import RUNNER_BYTES, Costs, DoesNotFit, Fit, NoSuchDevice, Room, Wanted
from qm.daemon.runner.wire import Options
from qm.modelfiles.parameters import KV_TYPES
from qm.store.gguf import read_header

MIB, GIB = 1 << 20, 1 << 30
WANTED = Wanted(context_length=4096, n_parallel=4)
COSTS = Costs(host_bytes=200 * MIB, device_bytes=300 * MIB, token_bytes=1024)


def synthetic(
    n_layers: int, dense: int, experts: int, kv: int, *, table: int, tied: bool = False
) -> ModelFacts:
    """A model of uniform layers, sizes in MiB."""
    layer = LayerFacts(dense * MIB, experts * MIB, kv)
    return ModelFacts(
        n_ctx_train=131072,
        n_embd=4096,
        n_vocab=128256,
        input_bytes=table * MIB,
        output_bytes=table * MIB,
        tied_bytes=table * MIB if tied else 0,
        head_bytes=table * MIB,
        layers=(layer,) * n_layers,
    )


MODELS = {
    "8B": synthetic(32, 130, 0, 2048, table=400),
    "70B": synthetic(80, 480, 0, 2048, table=850),
    "8x7B": synthetic(32, 60, 740, 2048, table=80),
    "120B-MoE": synthetic(36, 40, 1600, 1024, table=600),
    "tiny tied": synthetic(30, 2, 0, 384, table=30, tied=True),
}
EIGHT = MODELS["8B"]


def machine(available_bytes: int, n_cores: int = 8) -> Machine:
    return Machine(available_bytes * 2, available_bytes, n_cores)


def gpus(*room_bytes: int) -> tuple[Room, ...]:
    return tuple(Room(f"GPU{index}", size, size) for index, size in enumerate(room_bytes))


def test_every_kv_type_of_the_options_has_a_size() -> None:
    """An accepted option must never be a KeyError here."""
    assert set(KV_BYTES_PER_ELEMENT) == set(KV_TYPES)


def test_what_is_estimated_for_a_real_model(smollm2_gguf: Path) -> None:
    """llama.cpp reports 96.6 MB of weights, 94.4 of KV cache and 18.4 of compute buffers."""
    facts = model_facts(read_header(smollm2_gguf))
    found = fit(facts, machine(GIB), Options(num_ctx=4096), WANTED)
    assert found.kv_bytes == 4096 * 23040
    assert found.weights_bytes == 96_576_768
    assert found.predicted_bytes == pytest.approx(209_306_254, rel=0.05)


def test_the_default_context_holds_where_nobody_asks() -> None:
    """Memory permitting."""
    found = fit(EIGHT, machine(64 * GIB), Options(), WANTED)
    assert found.placement.n_ctx == found.target_n_ctx == 4096
    assert found.placement.n_threads == 8
    assert found.placement.n_parallel == 4
    assert found.kv_bytes == 4096 * 32 * 2048 * 2
    assert "context 4096" in found.reason


AUTOMATIC = Wanted(context_length=0, n_parallel=4)


def test_a_context_that_nobody_names_is_the_largest() -> None:
    """All that the model was trained for, where memory is plenty."""
    found = fit(MODELS["tiny tied"], machine(64 * GIB), Options(), AUTOMATIC)
    assert found.placement.n_ctx == found.target_n_ctx == 131072
    assert "context 131072 of 131072 trained, the largest" in found.reason


def test_a_context_that_nobody_names_leaves_room_for_other_models() -> None:
    """An eighth of the host's memory, a quarter of the GPUs'; whoever asks gets more."""
    on_host = fit(EIGHT, machine(32 * GIB), Options(), AUTOMATIC)
    assert on_host.kv_bytes == 8 * GIB
    assert "for other models" in on_host.reason
    rooms = gpus(12 * GIB, 12 * GIB)
    on_gpu = fit(EIGHT, machine(32 * GIB), Options(), AUTOMATIC, rooms=rooms, costs=COSTS)
    assert on_gpu.kv_bytes == 6 * GIB
    asked = fit(EIGHT, machine(64 * GIB), Options(num_ctx=131072), AUTOMATIC)
    assert asked.kv_bytes == 16 * GIB
    assert "as asked" in asked.reason


def test_a_context_below_the_least_says_so() -> None:
    """Whoever expects 4096 tokens must learn why there are fewer."""
    found = fit(EIGHT, machine(5400 * MIB), Options(), AUTOMATIC)
    assert 512 <= found.placement.n_ctx < 4096
    assert "memory is short for 131072, less than the 4096 aimed at" in found.reason


def test_a_longer_context_never_costs_layers() -> None:
    """And the reason says what it would have cost."""
    rooms = gpus(5 * GIB)
    found = fit(EIGHT, machine(999 * GIB), Options(), AUTOMATIC, rooms=rooms, costs=COSTS)
    least = fit(EIGHT, machine(999 * GIB), Options(num_ctx=4096), WANTED, rooms=rooms, costs=COSTS)
    assert found.n_gpu_layers == least.n_gpu_layers < 33
    assert found.placement.n_ctx >= 4096
    assert "more would cost layers on GPUs" in found.reason


@pytest.mark.parametrize(("asked", "given"), [(8192, 8192), (10**9, 131072), (1, 4), (0, 4096)])
def test_an_asked_context_is_clamped_to_what_was_trained(asked: int, given: int) -> None:
    """From 4 tokens to the model's own limit; 0 leaves it to us."""
    found = fit(EIGHT, machine(640 * GIB), Options(num_ctx=asked), WANTED)
    assert found.placement.n_ctx == given


def test_an_unasked_context_shrinks_to_fit_and_says_so() -> None:
    """Rather than refusing a model that works with less."""
    found = fit(EIGHT, machine(7 * GIB), Options(), Wanted(65536, 1), costs=COSTS)
    assert 512 <= found.placement.n_ctx < 65536
    assert found.target_n_ctx == 65536
    assert found.needed_bytes <= 7 * GIB
    assert "memory is short for 65536" in found.reason


def test_an_asked_context_is_never_shrunk() -> None:
    """Cutting it silently is what others do."""
    with pytest.raises(DoesNotFit, match="65536 tokens") as caught:
        fit(EIGHT, machine(6 * GIB), Options(num_ctx=65536), WANTED)
    assert "6,144 MiB are available" in str(caught.value)


def test_weights_that_do_not_fit_are_refused() -> None:
    """With every number, not a crash later."""
    with pytest.raises(DoesNotFit, match="weights 4,960 MiB"):
        fit(EIGHT, machine(3 * GIB), Options(), WANTED)


def test_a_limit_that_is_a_setting_is_named() -> None:
    """Whoever sees more memory free learns why it is not used."""
    limited = machine(64 * GIB).limited(3 * GIB, "QM_MODEL_MEMORY")
    with pytest.raises(DoesNotFit, match=r"3,072 MiB are available \(QM_MODEL_MEMORY\)"):
        fit(EIGHT, limited, Options(), WANTED)


def test_wishes_override_per_value() -> None:
    """What the request says wins over the settings and the machine."""
    wishes = Options(num_thread=3, num_parallel=2, num_batch=64, kv_type="q8_0", use_mmap=False)
    placement = fit(EIGHT, machine(64 * GIB), wishes, WANTED).placement
    assert placement.n_threads == 3
    assert placement.n_parallel == 2
    assert placement.n_batch == placement.n_ubatch == 64
    assert placement.kv_type == "q8_0"
    assert not placement.use_mmap


def test_what_is_embedded_comes_in_one_piece() -> None:
    """Where attention looks both ways no input is cut before the context ends."""
    both_ways = replace(EIGHT, n_ctx_train=2048, sees_ahead=True)
    for wishes, most in (
        (Options(), 2048),
        (Options(num_ctx=1024), 1024),
        (Options(num_ctx=64), 512),
    ):
        placement = fit(both_ways, machine(64 * GIB), wishes, WANTED).placement
        assert placement.n_batch == placement.n_ubatch == most
    longest = replace(both_ways, n_ctx_train=1 << 20)
    wanted = Wanted(context_length=1 << 17, n_parallel=1)
    assert n_ubatch(longest, Options(), wanted) == 8192
    assert n_ubatch(longest, Options(num_batch=1024), wanted) == 1024
    assert n_ubatch(replace(longest, sees_ahead=False), Options(), wanted) == 512


def test_all_layers_go_to_a_gpu_with_room() -> None:
    """The output too; the input's table stays with the host, as llama.cpp has it."""
    found = fit(EIGHT, machine(64 * GIB), Options(), WANTED, rooms=gpus(24 * GIB))
    assert found.placement.layers == (33,)
    assert found.placement.n_gpu_layers == 33
    assert found.uses[0].weights_bytes == EIGHT.input_bytes
    assert found.uses[0].kv_bytes == 0
    assert found.uses[1].n_layers == 33


def test_one_gpu_that_holds_all_is_enough() -> None:
    """Spreading would only cost transfers."""
    found = fit(EIGHT, machine(64 * GIB), Options(), WANTED, rooms=gpus(2 * GIB, 24 * GIB))
    assert found.placement.devices == ("GPU1",)


def test_layers_spread_over_several_gpus() -> None:
    """In the order of the devices, none over its room."""
    rooms = gpus(3 * GIB, 2 * GIB, 2 * GIB)
    found = fit(EIGHT, machine(64 * GIB), Options(), WANTED, rooms=rooms, costs=COSTS)
    assert found.placement.devices == ("GPU0", "GPU1", "GPU2")
    assert found.placement.n_gpu_layers == sum(found.placement.layers) == 33


def test_the_main_gpu_comes_first() -> None:
    """And one that isn't there is the request's mistake, unless there are no GPUs at all."""
    rooms = gpus(24 * GIB, 24 * GIB)
    found = fit(EIGHT, machine(64 * GIB), Options(main_gpu=1), WANTED, rooms=rooms)
    assert found.placement.devices == ("GPU1",)
    with pytest.raises(NoSuchDevice, match="GPU0, GPU1"):
        fit(EIGHT, machine(64 * GIB), Options(main_gpu=2), WANTED, rooms=rooms)
    assert fit(EIGHT, machine(64 * GIB), Options(main_gpu=2), WANTED).placement.devices == ()


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (5, 5), (10**6, 33), (-1, 33), (None, 33)])
def test_asked_layers_are_given_up_to_what_there_is(asked: int | None, given: int) -> None:
    """More than the model has means all."""
    wishes = Options(num_gpu=asked)
    found = fit(EIGHT, machine(64 * GIB), wishes, WANTED, rooms=gpus(24 * GIB))
    assert found.placement.n_gpu_layers == given


def test_more_layers_go_to_a_gpu_without_the_table_of_the_output() -> None:
    """A large vocabulary would take the room of three layers."""
    rooms = gpus(int(1.5 * GIB))
    wishes = Options(num_ctx=4096)
    found = fit(EIGHT, machine(64 * GIB), wishes, WANTED, rooms=rooms, costs=COSTS)
    assert found.n_gpu_layers == found.uses[1].n_layers == 8
    assert found.placement.n_gpu_layers == 9
    assert sum(use.n_layers for use in found.uses) == found.n_layers == 33
    assert [one.pattern for one in found.placement.overrides] == [HEAD]
    assert found.uses[0].weights_bytes == (400 + 24 * 130 + 400) * MIB
    assert (
        "8 of 33 layers on GPUs (8 on GPU0), the rest, with the output, on the CPU" in found.reason
    )


def test_the_output_goes_to_a_gpu_where_it_costs_no_layer() -> None:
    """As many layers with it as without: with it."""
    tiny = MODELS["tiny tied"]
    costs = Costs(MIB, MIB, 0)

    def placed(mebibytes: int) -> Fit:
        rooms = gpus(mebibytes * MIB)
        return fit(tiny, machine(GIB), Options(num_ctx=256), WANTED, rooms=rooms, costs=costs)

    assert [placed(size).n_gpu_layers for size in (1, 40, 70, 90, 100, 200)] == [
        0,
        17,
        30,
        30,
        31,
        31,
    ]
    assert [placed(size).head_on_host for size in (40, 70, 96, 100)] == [True, True, False, False]


def test_a_host_without_room_for_the_output_keeps_it_on_the_gpu() -> None:
    """Fewer layers are better than none."""
    rooms = gpus(int(1.5 * GIB))
    wishes = Options(num_ctx=256)
    ample = fit(EIGHT, machine(64 * GIB), wishes, WANTED, rooms=rooms, costs=COSTS)
    assert ample.head_on_host
    scarce = ample.needed_bytes - 1
    found = fit(EIGHT, machine(scarce), wishes, WANTED, rooms=rooms, costs=COSTS)
    assert found.needed_bytes <= scarce
    assert 0 < found.n_gpu_layers < ample.n_gpu_layers


def test_graphics_in_the_processor_take_the_hosts_memory() -> None:
    """What they hold counts there; what does not fit is refused, rather than swapped."""
    (room,) = gpus(16 * GIB)
    shared = (replace(room, shares_host=True),)
    wishes = Options(num_ctx=4096)
    found = fit(EIGHT, machine(12 * GIB), wishes, WANTED, rooms=shared, costs=COSTS)
    assert found.n_gpu_layers == 33
    assert found.needed_bytes == found.predicted_bytes + RUNNER_BYTES
    less = machine(found.needed_bytes - 1)
    on_cpu = fit(EIGHT, less, wishes, WANTED, rooms=shared, costs=COSTS)
    assert on_cpu.placement.devices == (), "there the buffers of the GPU are not needed"
    with pytest.raises(DoesNotFit, match="5,120 MiB are available"):
        fit(EIGHT, machine(5 * GIB), wishes, WANTED, rooms=shared, costs=COSTS)


def test_asked_layers_that_do_not_fit_are_not_forced() -> None:
    """What fits is placed, and the reason says so."""
    found = fit(
        EIGHT, machine(64 * GIB), Options(num_gpu=20), WANTED, rooms=gpus(2 * GIB), costs=COSTS
    )
    assert 0 < found.placement.n_gpu_layers < 20
    assert "no room for the 20 layers" in found.reason


def test_experts_leave_before_whole_layers() -> None:
    """Attention of all layers stays on the GPU, experts of the first ones go to the CPU."""
    found = fit(
        MODELS["120B-MoE"], machine(64 * GIB), Options(), WANTED, rooms=gpus(24 * GIB), costs=COSTS
    )
    assert found.placement.n_gpu_layers == 37
    assert 0 < found.n_host_experts < 36
    assert [one.device for one in found.placement.overrides] == ["CPU"]
    assert "experts of" in found.reason


def test_a_projector_and_a_draft_count() -> None:
    """On the GPU when there is room beside all layers, else on the host; never for nothing."""
    facts = replace(EIGHT, extra_bytes=GIB, extra_kv_elements=1000)
    large = fit(facts, machine(64 * GIB), Options(), WANTED, rooms=gpus(8 * GIB), costs=COSTS)
    small = fit(facts, machine(64 * GIB), Options(), WANTED, rooms=gpus(6 * GIB), costs=COSTS)
    assert large.companions_on_gpu
    assert not small.companions_on_gpu
    assert large.predicted_bytes == small.predicted_bytes
    assert small.uses[0].weights_bytes == EIGHT.input_bytes + GIB


def test_a_smaller_kv_type_is_used_only_when_allowed_and_needed() -> None:
    """f16 first; q8_0 where that brings layers to the GPU."""
    room = gpus(6 * GIB)
    allowed = replace(WANTED, kv_types=("f16", "q8_0"))
    wishes = Options(num_ctx=16384)

    def chosen(wanted: Wanted, rooms: tuple[Room, ...]) -> str:
        found = fit(EIGHT, machine(64 * GIB), wishes, wanted, rooms=rooms, costs=COSTS)
        return found.placement.kv_type

    assert chosen(WANTED, room) == "f16"
    assert chosen(allowed, room) == "q8_0"
    assert chosen(allowed, gpus(24 * GIB)) == "f16"


def test_context_grows_to_what_fits_where_that_is_wanted() -> None:
    """But never for a layer on the GPU."""
    rooms = gpus(8 * GIB)
    whole = fit(EIGHT, machine(64 * GIB), Options(), Wanted(0, 1), rooms=rooms, costs=COSTS)
    assert whole.placement.n_gpu_layers == 33
    assert 4096 < whole.placement.n_ctx < 131072
    assert whole.uses[1].total_bytes <= 8 * GIB
    most = fit(EIGHT, machine(999 * GIB), Options(), Wanted(0, 1), rooms=gpus(99 * GIB))
    assert most.placement.n_ctx == 131072
