"""`qm plan` and `qm doctor`, in words and against a live daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from qm.cli.graphics import System, graphics_cards, run_tool
from qm.cli.placement import problems_of
from qm.cli.running import processor_text

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

FOUND: dict[str, Any] = {
    "devices": [{"backend": "CPU"}],
    "backends": ["CPU"],
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


@pytest.mark.parametrize(
    ("card", "flag"),
    [
        ("nvidia", "-DGGML_CUDA=on"),
        ("amd", "-DGGML_HIP=on"),
        ("intel", "-DGGML_VULKAN=on"),
        ("apple", "-DGGML_METAL=on"),
    ],
)
def test_a_card_without_its_backend_is_a_problem(card: str, flag: str) -> None:
    """With the command that installs the right build; a card that is used is none."""
    (problem,) = problems_of(FOUND, (card,))
    assert f'CMAKE_ARGS="{flag}" {sys.executable} -m pip install' in problem
    assert "llama-cpp-python==0.3.36" in problem
    assert problems_of(FOUND | {"devices": [{"backend": "CUDA"}]}, (card,)) == []
    assert problems_of(FOUND, ()) == []


def test_a_right_build_without_a_device_is_another_problem() -> None:
    """A new build would not help where the driver is missing."""
    (problem,) = problems_of(FOUND | {"backends": ["CPU", "CUDA"]}, ("nvidia",))
    assert "built for CUDA, which finds no device" in problem
    assert "CMAKE_ARGS" not in problem


def test_a_missing_worker_is_a_problem() -> None:
    """With its address and the reason."""
    missing = [{"endpoint": "10.0.0.9:50052", "reason": "can't be reached: refused"}]
    (problem,) = problems_of(FOUND | {"missing": missing, "backends": ["CPU", "RPC"]}, ())
    assert "10.0.0.9:50052: can't be reached" in problem


def test_a_build_that_can_not_reach_workers_is_a_problem() -> None:
    """One, however many workers are named, and with the command that installs the right build."""
    missing = [{"endpoint": f"10.0.0.{n}:1", "reason": "built without RPC"} for n in (1, 2)]
    (problem,) = problems_of(FOUND | {"missing": missing}, ())
    assert 'CMAKE_ARGS="-DGGML_RPC=on"' in problem


def test_a_budget_of_an_unknown_device_is_a_problem() -> None:
    """As the daemon tells it."""
    told = "there is no device CUDA7; devices that can hold layers: none"
    assert problems_of(FOUND | {"gpu_memory_problem": told}, ()) == [f"QM_GPU_MEMORY: {told}"]


SILENT = System(Path("/nonexistent"), "x86_64", lambda _command: "")


def machine(root: Path, **files: str) -> System:
    """One whose files are these; `__` in a name is a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return replace(SILENT, root=root)


@pytest.mark.parametrize(
    ("files", "makers"),
    [
        ({"sys__class__drm__card0__device__vendor": "0x10de"}, ("nvidia",)),
        ({"sys__class__drm__card0__device__vendor": "0x1002"}, ("amd",)),
        ({"sys__class__drm__card1__device__vendor": "0x8086"}, ("intel",)),
        ({"sys__class__drm__card0__device__vendor": "0x1234"}, ()),
        ({"proc__driver__nvidia__version": "NVRM version"}, ("nvidia",)),
        ({"dev__nvidiactl": ""}, ("nvidia",)),
        ({"dev__kfd": ""}, ("amd",)),
        (
            {
                "sys__bus__pci__devices__a__class": "0x030200",
                "sys__bus__pci__devices__a__vendor": "0x10de",
            },
            ("nvidia",),
        ),
        (
            {
                "sys__bus__pci__devices__a__class": "0x020000",
                "sys__bus__pci__devices__a__vendor": "0x8086",
            },
            (),
        ),
        ({"System__Library__Frameworks__Metal.framework": ""}, ()),
    ],
)
def test_cards_are_told_by_the_files_of_a_machine(
    tmp_path: Path, files: dict[str, str], makers: tuple[str, ...]
) -> None:
    """As the kernel lists them, with a driver or without; Intel's network cards are none."""
    assert graphics_cards(machine(tmp_path, **files)) == makers


def test_cards_of_several_makers_are_told_once_each(tmp_path: Path) -> None:
    """Two cards of one, and one of another."""
    drm = "sys__class__drm__card{}__device__vendor"
    files = {
        drm.format(number): vendor for number, vendor in enumerate(("0x8086", "0x10de", "0x10de"))
    }
    assert graphics_cards(machine(tmp_path, **files)) == ("nvidia", "intel")


def test_apples_own_machines_have_their_card(tmp_path: Path) -> None:
    """Told by Metal on Apple's own processor."""
    mac = machine(tmp_path, **{"System__Library__Frameworks__Metal.framework": ""})
    assert graphics_cards(replace(mac, machine="arm64")) == ("apple",)


@pytest.mark.parametrize(
    ("tool", "told", "maker"),
    [
        ("nvidia-smi", "GPU 0: NVIDIA L4 (UUID: GPU-0)", "nvidia"),
        ("rocm-smi", "GPU[0] : Card Series: Instinct", "amd"),
    ],
)
def test_cards_are_told_by_their_drivers_programs(tool: str, told: str, maker: str) -> None:
    """In containers these may be all that there is to see."""
    answers = {tool: told}
    system = replace(SILENT, run=lambda command: answers.get(command[0], ""))
    assert graphics_cards(system) == (maker,)


def test_programs_of_drivers_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, or without a card to talk to: no card."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU access blocked'\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_tool(("nvidia-smi", "-L")) == ""
    assert run_tool(("rocm-smi",)) == ""


def test_doctor_tells_a_stranger_which_build_to_install(
    live_daemon: LiveDaemon, tmp_path: Path
) -> None:
    """On a machine whose driver's program lists a card, with a build that can't use it."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA L4 (UUID: GPU-0)'\n")
    program.chmod(0o755)
    environment = live_daemon.env | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        (Path(sys.executable).with_name("qm"), "doctor"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert 'CMAKE_ARGS="-DGGML_CUDA=on"' in done.stdout


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
        (("--gpu-memory", "9" * 400), "more than any machine has"),
        (("--gpu-memory", "CUDA7:1GiB"), "there is no device CUDA7"),
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
    told = "the largest" if arguments[1] == "0" else "for the 1000000000 asked"
    assert told in planned["reason"]


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
