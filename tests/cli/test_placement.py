"""`qm plan` and `qm doctor`, in words and against a live daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from qm.cli.graphics import graphics_cards
from qm.cli.placement import problems_of
from qm.cli.running import processor_text

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

FOUND: dict[str, Any] = {
    "devices": [{"backend": "CPU"}],
    "missing": [],
    "llama_cpp_python": "0.3.36",
}


@pytest.mark.parametrize(
    ("size", "vram", "text"),
    [
        (100, 0, "100% CPU"),
        (100, 100, "100% GPU"),
        (100, 72, "72% GPU / 28% CPU"),
        (10000, 1, "1% GPU / 99% CPU"),
    ],
)
def test_split_in_words(size: int, vram: int, text: str) -> None:
    """Never 0% of something that is there."""
    assert processor_text(size, vram) == text


def test_a_card_without_its_backend_is_a_problem() -> None:
    """With the command that installs the right build; a card that is used is none."""
    (problem,) = problems_of(FOUND, ("nvidia",))
    assert 'CMAKE_ARGS="-DGGML_CUDA=on" pip install' in problem
    assert "llama-cpp-python==0.3.36" in problem
    assert problems_of(FOUND | {"devices": [{"backend": "CUDA"}]}, ("nvidia",)) == []
    assert problems_of(FOUND, ()) == []


def test_a_missing_worker_is_a_problem() -> None:
    """With its address and the reason."""
    missing = [{"endpoint": "10.0.0.9:50052", "reason": "can't be reached: refused"}]
    (problem,) = problems_of(FOUND | {"missing": missing}, ())
    assert "10.0.0.9:50052: can't be reached" in problem


def test_cards_are_told_by_their_makers(tmp_path: Path) -> None:
    """As the kernel lists them; an unknown maker is no card of ours."""
    if sys.platform != "linux":
        pytest.skip("only Linux has /sys")
    for number, vendor in enumerate(("0x10de", "0x10de", "0x1234")):
        device = tmp_path / f"card{number}" / "device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
    assert graphics_cards(tmp_path) == ("nvidia",)


def test_a_plan_tells_what_a_load_then_takes(live_daemon: LiveDaemon) -> None:
    """Predicted before, allocated after: the same numbers, to the byte."""
    planned = json.loads(live_daemon.qm("plan", "smollm2", "--num-ctx", "1024", "--json").stdout)
    assert planned["measured"]
    assert planned["context_length"] == 1024
    assert planned["most_context_length"] == 8192
    assert {one["type"] for one in planned["quants"]} >= {"Q4_K_M", "Q8_0"}
    text = live_daemon.qm("plan", "smollm2").stdout
    assert "measured by a dry run" in text
    assert "DEVICE" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--gpu-memory", "nonsense"), "gpu_memory 'nonsense' can't be used"),
        (("--gpu-memory", "a:1,a:2"), "two sizes for a"),
        (("--num-ctx", "-5"), "num_ctx"),
        (("--kv-type", "q9"), "kv_type"),
    ],
)
def test_a_plan_refuses_nonsense(
    live_daemon: LiveDaemon, arguments: tuple[str, ...], words: str
) -> None:
    """In one line that names what is wrong."""
    done = live_daemon.qm("plan", "smollm2", *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("--num-ctx", "0"), ("--num-ctx", "1000000000")])
def test_contexts_out_of_range_are_brought_into_it(
    live_daemon: LiveDaemon, arguments: tuple[str, ...]
) -> None:
    """0 leaves it to qm; more than was trained is what was trained."""
    planned = json.loads(live_daemon.qm("plan", "smollm2", *arguments, "--json").stdout)
    assert planned["context_length"] == 8192
    assert ("the largest" if arguments[1] == "0" else "as asked") in planned["reason"]


def test_doctor_lists_the_cpu(live_daemon: LiveDaemon) -> None:
    """And what of the host models may take."""
    done = live_daemon.qm("doctor")
    assert "CPU" in done.stdout
    assert "models may take" in done.stdout


def test_a_worker_warns_before_anything_else() -> None:
    """Whoever starts one reads that the protocol is open; this build may not have it at all."""
    command = Path(sys.executable).with_name("qm")
    with subprocess.Popen(
        [command, "worker", "--port", "1"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stderr is not None
        assert b"no authentication" in process.stderr.readline()
        process.terminate()
