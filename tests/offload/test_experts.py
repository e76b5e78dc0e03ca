"""Experts of a mixture stay on the host while attention goes to a device: loaded for real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..modelfiles.build.tiny_mixture import write_tiny_mixture
from .asking import MIB, ask, loaded

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

    from .conftest import Worker

Start = Callable[..., "LiveDaemon"]
StartWorker = Callable[[], "Worker"]


def test_experts_go_to_the_host_before_layers_do(
    start_worker: StartWorker, start_offloading: Start, tmp_path: Path
) -> None:
    """All layers on the device, experts of some on the host; accounted to the megabyte, and the
    same answer as on the host alone.
    """
    path = tmp_path / "mixture.gguf"
    write_tiny_mixture(path)
    whole = path.stat().st_size // MIB
    worker = start_worker()
    daemon = start_offloading(worker, QM_GPU_MEMORY=f"{whole // 2 + 24}MiB", QM_GPU_RESERVE="0")
    assert daemon.qm("create", "mixture", "--from", str(path)).returncode == 0
    planned = json.loads(daemon.qm("plan", "mixture", "--num-ctx", "256", "--json").stdout)
    assert planned["gpu_layers"] == planned["layers"] == 9
    assert 0 < planned["host_experts"] < 8
    answer = ask(daemon, "mixture", num_ctx=256)
    own = loaded(daemon)["qm"]
    assert f"experts of {planned['host_experts']} layers on the CPU" in own["placement"]
    assert "failed" not in own["placement"]
    for one in own["devices"]:
        assert abs(one["predicted_bytes"] - one["actual_bytes"]) <= MIB, one
    assert {one["device"] for one in own["devices"]} == {"CPU", "RPC0"}
    assert ask(daemon, "mixture", num_ctx=256, num_gpu=0) == answer
    assert daemon.qm("rm", "mixture").returncode == 0
