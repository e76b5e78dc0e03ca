"""Layers on devices of other processes: placed, accounted, answered from, and lost."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .asking import ASK, EXACT, ask, loaded, n_devices_foreseen

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

    from .conftest import Worker

N_BUDGETS = int(os.environ.get("QM_TEST_BUDGETS", "12"))  # 200 in the whole campaign
SEED = int(os.environ.get("QM_TEST_SEED", "4"))
MIB = 1 << 20
Start = Callable[..., "LiveDaemon"]
StartWorker = Callable[[], "Worker"]


def test_predictions_come_true_on_every_device(
    start_worker: StartWorker, start_offloading: Start
) -> None:
    """With layers on three of them."""
    daemon = start_offloading(start_worker(), start_worker(), QM_GPU_MEMORY="280MiB")
    assert n_devices_foreseen(daemon) == 3


def test_answers_are_the_same_wherever_layers_are(
    start_worker: StartWorker, start_offloading: Start
) -> None:
    """On the CPU, on two devices, and in part."""
    daemon = start_offloading(start_worker(), start_worker(), QM_GPU_MEMORY="120MiB")
    answers = {ask(daemon, num_gpu=count) for count in (0, 5, 31)}
    assert len(answers) == 1
    assert "Paris" in answers.pop()
    assert "GPU" in daemon.qm("ps").stdout


def test_no_random_budget_fails_a_load(start_worker: StartWorker, start_offloading: Start) -> None:
    """From nothing to more than enough, on one device or two; and never more than the budget."""
    workers = [start_worker(), start_worker()]
    chance = random.Random(SEED)
    for _ in range(N_BUDGETS):
        budgets = [chance.choice((0, 1, 40, 80, 160, 320)) + chance.randrange(60) for _ in workers]
        text = ",".join(f"RPC{index}:{size}MiB" for index, size in enumerate(budgets))
        daemon = start_offloading(*workers, QM_GPU_MEMORY=text)
        n_ctx = chance.choice((256, 1024, 4096))
        assert ask(daemon, num_ctx=n_ctx, num_predict=1)
        assert "failed" not in loaded(daemon)["qm"]["placement"], text
        for one in loaded(daemon)["qm"]["devices"][1:]:
            assert one["actual_bytes"] <= budgets[int(one["device"][3:])] * MIB, text
        daemon.stop()


def test_a_large_vocabulary_costs_no_layers(
    start_worker: StartWorker, start_offloading: Start
) -> None:
    """The table of the output stays on the host, where it is for the input anyway: accounted, and
    the same answer.
    """
    daemon = start_offloading(start_worker(), QM_GPU_MEMORY="70MiB", QM_GPU_RESERVE="0")
    answer = ask(daemon, num_ctx=512)
    own = loaded(daemon)["qm"]
    assert "the rest, with the output, on the CPU" in own["placement"]
    for one in (*own["devices"], own):
        assert abs(one["predicted_bytes"] - one["actual_bytes"]) <= MIB, one
    planned = json.loads(daemon.qm("plan", "smollm2", "--num-ctx", "512", "--json").stdout)
    assert planned["output_on_host"]
    assert planned["gpu_layers"] > 15, "with the output there would be half of them"
    assert ask(daemon, num_ctx=512, num_gpu=0) == answer


def test_a_worker_that_dies_mid_answer(start_worker: StartWorker, start_offloading: Start) -> None:
    """The request fails clearly, the daemon lives, the next load goes without it."""
    worker = start_worker()
    daemon = start_offloading(worker)
    body = ASK | {"stream": True, "options": {"num_predict": 2000, "ignore_eos": True}}
    lines = []
    with daemon.stream("/api/generate", body) as answer:
        for line in answer:
            lines.append(line)
            if len(lines) == 3:
                worker.kill()
    assert "a worker (QM_RPC) that had layers of the model died" in lines[-1]["error"]
    assert "Paris" in ask(daemon)
    assert loaded(daemon)["size_vram"] == 0
    missing = json.loads(daemon.qm("doctor", "--json").stdout)["missing"]
    assert [one["endpoint"] for one in missing] == [worker.endpoint]


def test_a_worker_that_dies_before_the_load(
    start_worker: StartWorker, start_offloading: Start
) -> None:
    """Planned with it, loaded without it."""
    worker, other = start_worker(), start_worker()
    daemon = start_offloading(worker, other)
    planned = json.loads(daemon.qm("plan", "smollm2", "--json").stdout)
    assert planned["gpu_layers"] == 31
    worker.kill()
    assert "Paris" in ask(daemon)
    assert loaded(daemon)["size_vram"] > 0


def test_a_worker_that_runs_out_of_memory(
    start_worker: StartWorker, start_offloading: Start
) -> None:
    """It told of more than it can give: less is tried and told, and the next load knows."""
    worker = start_worker()
    worker.limit_memory(200 * MIB)
    daemon = start_offloading(worker)
    assert "Paris" in ask(daemon, num_ctx=8192)
    placed = loaded(daemon)["qm"]["placement"]
    assert "with 31 layers on GPUs and context 8192 failed" in placed
    assert "failed to allocate" in placed
    assert daemon.qm("stop", "smollm2").returncode == 0
    assert "Paris" in ask(daemon, num_ctx=8192)
    assert "failed" not in loaded(daemon)["qm"]["placement"]
    assert worker.process.poll() is None


def test_a_worker_that_hangs_is_left_out(
    start_worker: StartWorker, start_offloading: Start
) -> None:
    """Its system takes connections, and nobody answers: loads go on without it."""
    worker = start_worker()
    worker.process.send_signal(signal.SIGSTOP)
    daemon = start_offloading(worker)
    assert "Paris" in ask(daemon)
    assert loaded(daemon)["size_vram"] == 0
    (missing,) = json.loads(daemon.qm("doctor", "--json").stdout)["missing"]
    assert "does not answer" in missing["reason"]
    worker.process.send_signal(signal.SIGCONT)
    assert json.loads(daemon.qm("doctor", "--json").stdout)["missing"] == []


def test_a_draft_model_is_counted_on_its_device(
    start_worker: StartWorker, start_offloading: Start, smollm2_gguf: Path, tmp_path: Path
) -> None:
    """Weights, cache and buffers, there and on the host."""
    daemon = start_offloading(start_worker())
    (tmp_path / "Modelfile").write_text(f"FROM smollm2\nDRAFT {smollm2_gguf}\n")
    assert daemon.qm("create", "drafted", "-f", str(tmp_path / "Modelfile")).returncode == 0
    assert "Paris" in ask(daemon, "drafted", num_ctx=1024)
    own = loaded(daemon)["qm"]
    for one in (*own["devices"], own):
        assert abs(one["predicted_bytes"] - one["actual_bytes"]) <= MIB, one
    assert own["devices"][1]["actual_bytes"] > 2 * smollm2_gguf.stat().st_size
    assert daemon.qm("rm", "drafted").returncode == 0


def test_two_models_live_on_two_workers(start_worker: StartWorker, start_offloading: Start) -> None:
    """The second goes where nobody is; its runner needs nothing of the worker that is busy."""
    daemon = start_offloading(start_worker(), start_worker())
    for model in ("smollm2", "gemma3"):
        assert ask(daemon, model, num_ctx=512)
    rows = daemon.json("GET", "/api/ps")["models"]
    placed = {row["name"]: row["qm"]["placement"] for row in rows}
    assert len(placed) == 2
    assert "on RPC0" in placed["smollm2:latest"]
    assert "on RPC1" in placed["gemma3:latest"]
    assert "failed" not in "".join(placed.values())


def test_a_pinned_model_keeps_its_worker(
    start_worker: StartWorker, start_offloading: Start
) -> None:
    """The next model goes to the host."""
    daemon = start_offloading(start_worker())
    body = ASK | {"options": EXACT, "keep_alive": -1}
    assert "Paris" in daemon.json("POST", "/api/generate", body)["response"]
    assert ask(daemon, "gemma3", num_ctx=512)
    rows = daemon.json("GET", "/api/ps")["models"]
    assert {row["name"]: row["size_vram"] > 0 for row in rows} == {
        "smollm2:latest": True,
        "gemma3:latest": False,
    }


def test_a_budget_by_the_workers_address(
    start_worker: StartWorker, start_offloading: Start
) -> None:
    """Nothing of one worker, whatever its number; an unknown name is told by doctor."""
    one, other = start_worker(), start_worker()
    daemon = start_offloading(one, other, QM_GPU_MEMORY=f"{one.endpoint}:0,CUDA7:1GiB")
    assert "Paris" in ask(daemon)
    assert "31 on RPC1" in loaded(daemon)["qm"]["placement"]
    done = daemon.qm("doctor")
    assert done.returncode == 1
    assert "there is no device CUDA7; devices that can hold layers: RPC0, RPC1" in done.stdout


def test_loads_take_turns_on_one_worker(start_worker: StartWorker, start_offloading: Start) -> None:
    """It serves one runner at a time: the one that is idle leaves, nobody hangs."""
    daemon = start_offloading(start_worker())
    assert "Paris" in ask(daemon)
    assert "Paris" in ask(daemon, num_ctx=8192)
    assert daemon.qm("stop", "smollm2").returncode == 0
    assert "Paris" in ask(daemon)
