"""install.sh in a real shell: what it chooses, what it leaves, what it takes back."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTALL = ROOT / "install" / "install.sh"
TOOLS = ("cat", "cksum", "cp", "cut", "dirname", "grep", "id", "ln", "mkdir", "mktemp", "mv",
         "readlink", "rm", "rmdir", "sed", "sh")  # fmt: skip

Result = subprocess.CompletedProcess[str]


def _command(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.unlink(missing_ok=True)  # it may be a link to the machine's own command
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A directory of commands that stands for a machine without GPU, compiler or systemd."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for tool in TOOLS:
        _command(commands, tool, f'exec {shutil.which(tool)} "$@"')
    _command(commands, "uname", '[ "$1" = -m ] && echo x86_64 || echo Linux')
    _command(commands, "python3", f'exec {sys.executable} "$@"')
    return commands


def _install(machine: Path, *arguments: str, **settings: str) -> Result:
    """One run of install.sh on that machine, with a home directory of its own."""
    home = machine.parent / "home"
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    env = kept | {"PATH": str(machine), "HOME": str(home)} | settings
    return subprocess.run(
        ["/bin/sh", INSTALL, *arguments], env=env, text=True, capture_output=True, check=False
    )


def _choice(machine: Path, *arguments: str) -> str:
    """The line that says what llama.cpp is built for."""
    result = _install(machine, "--dry-run", *arguments)
    assert result.returncode == 0, result.stderr
    return next(line for line in result.stdout.splitlines() if "is built for" in line)


NVIDIA = ("nvidia-smi", "echo 'GPU 0: NVIDIA RTX'")
AMD = ("rocminfo", "echo '  Name:                    gfx1100'")
VULKAN = ("vulkaninfo", "echo 'deviceType = PHYSICAL_DEVICE_TYPE_DISCRETE_GPU'")
SOFTWARE_VULKAN = ("vulkaninfo", "echo 'deviceType = PHYSICAL_DEVICE_TYPE_CPU'")
NVCC, HIPCC, GLSLC = ("nvcc", ":"), ("hipcc", ":"), ("glslc", ":")


@pytest.mark.parametrize(
    ("found", "backend", "why"),
    [
        ((), "cpu", "no GPU was found"),
        ((NVCC,), "cpu", "no GPU was found"),
        ((NVIDIA, NVCC), "cuda", "CUDA toolkit"),
        ((NVIDIA,), "cpu", "no CUDA toolkit (nvcc)"),
        ((("nvidia-smi", "echo 'no driver' >&2; exit 9"), NVCC), "cpu", "no GPU was found"),
        ((NVIDIA, VULKAN, GLSLC), "vulkan", "Vulkan"),
        ((AMD, HIPCC), "rocm", "ROCm"),
        ((AMD,), "cpu", "no ROCm compiler (hipcc)"),
        ((VULKAN,), "cpu", "no shader compiler (glslc)"),
        ((SOFTWARE_VULKAN, GLSLC), "cpu", "no GPU was found"),
        ((("uname", '[ "$1" = -m ] && echo arm64 || echo Darwin'),), "metal", "Apple silicon"),
        ((("uname", '[ "$1" = -m ] && echo x86_64 || echo Darwin'),), "cpu", "Intel Mac"),
    ],
)
def test_builds_for_what_is_there(
    machine: Path, found: tuple[tuple[str, str], ...], backend: str, why: str
) -> None:
    """A GPU counts together with the tools that building for it takes; the reason is said."""
    for name, script in found:
        _command(machine, name, script)
    line = _choice(machine)
    assert f"built for {backend}:" in line
    assert why in line


def test_a_choice_of_the_user_wins(machine: Path) -> None:
    """--backend overrides what was found."""
    _command(machine, *NVIDIA)
    _command(machine, *NVCC)
    assert "built for vulkan: asked for" in _choice(machine, "--backend", "vulkan")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "abacus"], "unknown backend 'abacus'"),
        (["--frobnicate"], "unknown argument: --frobnicate"),
        (["--prefix"], "--prefix needs a directory"),
        (["--uninstall"], "qm is not installed in"),
    ],
)
def test_refuses_what_it_does_not_understand(
    machine: Path, arguments: list[str], message: str
) -> None:
    """A wrong argument is named and nothing happens."""
    result = _install(machine, *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert list((machine.parent / "home").iterdir()) == []


def test_says_what_is_missing_without_a_python(machine: Path) -> None:
    """Without a usable Python the way out is named."""
    _command(machine, "python3", "exit 1")
    result = _install(machine, "--dry-run")
    assert result.returncode == 1
    assert "qm needs Python 3.11 or newer" in result.stderr


def test_leaves_a_command_of_somebody_else_alone(machine: Path, tmp_path: Path) -> None:
    """A bin/qm that we did not make is neither replaced nor removed."""
    command = tmp_path / "prefix/bin/qm"
    command.parent.mkdir(parents=True)
    command.write_text("not ours")
    result = _install(machine, "--prefix", str(tmp_path / "prefix"))
    assert result.returncode == 1
    assert "is there already and not ours" in result.stderr
    assert command.read_text() == "not ours"


def _tree(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def _asked_of_pip(machine: Path, **settings: str) -> str:
    """What llama-cpp.sh has pip do, and the flags that the compiler gets."""
    _command(
        machine,
        "python3",
        'case $* in *"cache dir"*) echo /cache ;; *) echo "$CFLAGS" "$CXXFLAGS" "$@" ;; esac',
    )
    command = ["/bin/sh", str(ROOT / "install/llama-cpp.sh"), "python3", "--quiet"]
    env = {"PATH": str(machine)} | settings
    done = subprocess.run(command, env=env, text=True, capture_output=True, check=True)
    return str(done.stdout.strip())


def test_each_kind_of_llama_cpp_has_its_cache(machine: Path) -> None:
    """A wheel that was built for something else is not taken."""
    plain = _asked_of_pip(machine)
    assert plain.startswith("-m pip install --quiet")
    assert plain.split()[-1].startswith("llama-cpp-python")
    cuda, vulkan = (_asked_of_pip(machine, CMAKE_ARGS=f"-DGGML_{name}=on") for name in "AB")
    for asked in (cuda, vulkan):
        assert "--no-binary=llama-cpp-python --cache-dir /cache/qm-" in asked
    assert cuda != vulkan


def test_llama_cpp_does_without_what_slows_it_down(machine: Path) -> None:
    """Where the processor has AVX512-FP16, and the compiler knows how to leave it out."""
    _command(machine, "grep", "exit 0")  # every processor has it
    assert "-mno" not in _asked_of_pip(machine, CXX="false")
    _command(machine, "c++", "exit 0")
    asked = _asked_of_pip(machine, CXXFLAGS="-O3").split()
    assert asked.count("-mno-avx512fp16") == asked.count("-mno-amx-int8") == 2
    assert "-O3" in asked
    _command(machine, "grep", "exit 1")
    assert "-mno" not in _asked_of_pip(machine)


@pytest.mark.slow
def test_installs_and_takes_everything_back(machine: Path, tmp_path: Path) -> None:
    """After an install with service `qm` works; after the uninstall only the models are left."""
    _command(machine, "systemctl", f'echo "$@" >>{tmp_path}/systemctl')
    _command(machine, "c++", f'exec {shutil.which("c++")} "$@"')  # is asked what it knows
    prefix, models = tmp_path / "prefix", tmp_path / "models"
    (prefix / "share").mkdir(parents=True)
    (prefix / "share/of-others").touch()
    models.mkdir()
    (models / "blob").touch()
    _install(machine, "--dry-run")  # makes the home directory
    before = _tree(prefix) | _tree(machine.parent / "home")
    place = ["--prefix", str(prefix)]
    settings = {"QM_HOME": str(models), "PIP_CACHE_DIR": _pip_cache(), "PIP_NO_COMPILE": "1"}

    result = _install(machine, *place, "--service", **settings)
    assert result.returncode == 0, result.stdout + result.stderr
    printed = subprocess.run(
        [prefix / "bin/qm", "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage: qm" in printed.stdout
    for script in ("bash-completion/completions/qm", "zsh/site-functions/_qm"):
        assert "_QM_COMPLETE" in (prefix / "share" / script).read_text()
    unit = (machine.parent / "home/.config/systemd/user/qm.service").read_text()
    assert f'ExecStart="{prefix}/bin/qm" serve' in unit
    assert "--user enable --now qm.service" in (tmp_path / "systemctl").read_text()

    again = _install(machine, *place, "--no-service", **settings)
    assert again.returncode == 0, again.stdout + again.stderr

    gone = _install(machine, *place, "--uninstall", **settings)
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert f"your models stay in {models}" in gone.stdout
    assert "--user disable --now qm.service" in (tmp_path / "systemctl").read_text()
    assert _tree(prefix) | _tree(machine.parent / "home") == before
    assert (models / "blob").exists()


def _pip_cache() -> str:
    """pip's own cache: llama.cpp was compiled for this environment and need not be once more."""
    command = [sys.executable, "-m", "pip", "cache", "dir"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_launchd_agent_serves() -> None:
    """The agent is a valid property list that runs `qm serve` and restarts it after a crash."""
    agent = plistlib.loads((ROOT / "install/local.qm.daemon.plist").read_bytes())
    assert agent["ProgramArguments"] == ["@QM@", "serve"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert f"{agent['Label']}.plist" == "local.qm.daemon.plist"


def test_container_copies_every_folder() -> None:
    """The image is built from all the folders that pyproject packages."""
    text = (ROOT / "install/Containerfile").read_text()
    for folder in ("cli", "daemon", "modelfiles", "store"):
        assert f"COPY {folder} /src/{folder}" in text
