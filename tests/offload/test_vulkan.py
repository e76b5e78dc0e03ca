"""Layers on a Vulkan device: Mesa's, which computes on the CPU, so slowly."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from .asking import MIB, ask, loaded, n_devices_foreseen

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

N_BUDGETS = max(3, int(os.environ.get("QM_TEST_BUDGETS", "12")) // 4)
SEED = int(os.environ.get("QM_TEST_SEED", "4"))
SOFTWARE_DEVICE = {"GGML_VK_VISIBLE_DEVICES": "0"}  # else llama.cpp leaves out what is no GPU

Start = Callable[..., "LiveDaemon"]


def test_the_device_is_told(start_offloading: Start) -> None:
    """With its memory."""
    daemon = start_offloading(**SOFTWARE_DEVICE)
    found = json.loads(daemon.qm("doctor", "--json").stdout)
    (device,) = [one for one in found["devices"] if one["name"] == "Vulkan0"]
    assert "llvmpipe" in device["description"]
    assert device["total_bytes"] > 100 * MIB


def test_predictions_come_true(start_offloading: Start) -> None:
    """On the device and on the host, which share the layers."""
    daemon = start_offloading(QM_GPU_MEMORY="280MiB", QM_GPU_RESERVE="0", **SOFTWARE_DEVICE)
    assert n_devices_foreseen(daemon) == 2


@pytest.mark.parametrize("layers", [15, 31])
def test_answers_are_right(start_offloading: Start, layers: int) -> None:
    """With half of the layers on the device, and with all."""
    daemon = start_offloading(QM_GPU_RESERVE="0", **SOFTWARE_DEVICE)
    assert "Paris" in ask(daemon, num_gpu=layers, num_ctx=512, num_predict=4)
    planned = json.loads(
        daemon.qm("plan", "smollm2", "--num-gpu", str(layers), "--num-ctx", "512", "--json").stdout
    )
    assert planned["gpu_layers"] == layers
    assert loaded(daemon)["size_vram"] > 0


def test_no_random_budget_fails_a_load(start_offloading: Start) -> None:
    """From nothing to more than enough, and never more than the budget."""
    chance = random.Random(SEED)
    for _ in range(N_BUDGETS):
        budget = chance.choice((0, 1, 40, 80, 160, 320)) + chance.randrange(60)
        text = f"Vulkan0:{budget}MiB"
        daemon = start_offloading(QM_GPU_MEMORY=text, QM_GPU_RESERVE="0", **SOFTWARE_DEVICE)
        ask(daemon, num_ctx=chance.choice((256, 1024, 4096)), num_predict=1)
        row = loaded(daemon)
        for one in row["qm"]["devices"][1:]:
            assert one["actual_bytes"] <= budget * MIB, text
        assert "failed" not in row["qm"]["placement"], text
        daemon.stop()
