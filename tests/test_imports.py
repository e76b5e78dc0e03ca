"""Who may import whom, and what the quick commands and an idle daemon may not import at all."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import resolve_name
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

ROOT = Path(__file__).parents[1]
COMMAND = str(Path(sys.executable).with_name("qm"))
FOLDERS = ("cli", "daemon", "modelfiles", "store")
ALLOWED = {
    "store": {"store"},
    "modelfiles": {"modelfiles", "store"},
    "daemon": {"daemon", "modelfiles", "store"},
    "cli": {"cli"},
}
CLI_MAY_ALSO = {
    "qm.modelfiles.quantization",
    "qm.daemon.network",
    "qm.daemon.setting_values",
    "qm.daemon.settings",
    "qm.modelfiles.create_request",
    "qm.modelfiles.parameters",
    "qm.modelfiles.parser",
    "qm.modelfiles.spec",
    "qm.store.errors",
    "qm.store.name",
    "qm.store.pull.reference",
}
CLI_NEVER = ("aiohttp", "asyncio", "huggingface_hub", "jinja2", "llama_cpp", "msgspec", "numpy")
IDLE_DAEMON_NEVER = ("gguf", "huggingface_hub", "jinja2", "llama_cpp", "llguidance", "numpy")

_TIMING = "import time:"


@dataclass(frozen=True, slots=True)
class Import:
    """An import statement of `module`; `name` is absolute, `level` counts the dots written."""

    module: str
    line: int
    name: str
    level: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.name}"

    @property
    def folder(self) -> str:
        return self.module.split(".")[1]


def _imports_in(path: Path) -> Iterator[Import]:
    module = ".".join(("qm", *path.relative_to(ROOT).with_suffix("").parts))
    package = module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name, 0)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                name = base if _is_module(base) else f"{base}.{alias.name}"
                yield Import(module, node.lineno, name, node.level)


def _is_module(name: str) -> bool:
    return (ROOT / Path(*name.split(".")[1:])).with_suffix(".py").exists()


def _imports() -> list[Import]:
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return [found for path in paths for found in _imports_in(path)]


def _ours() -> list[Import]:
    return [found for found in _imports() if found.name.split(".")[0] == "qm"]


def test_folders_import_only_downwards() -> None:
    """store ← modelfiles ← daemon, and cli knows a handful of light modules besides its own."""
    wrong = [
        str(found)
        for found in _ours()
        if found.name.split(".")[1] not in ALLOWED[found.folder]
        and not (found.folder == "cli" and found.name in CLI_MAY_ALSO)
    ]
    assert wrong == []


def test_imports_are_relative_inside_a_folder_and_absolute_across() -> None:
    """One way to name each module."""
    wrong = [
        str(found)
        for found in _ours()
        if (found.level > 0) != (found.name.split(".")[1] == found.folder)
    ]
    assert wrong == []


def test_llama_cpp_is_imported_by_one_module() -> None:
    """Everything native sits behind qm.modelfiles.native."""
    importers = {found.module for found in _imports() if found.name.split(".")[0] == "llama_cpp"}
    assert importers <= {"qm.modelfiles.native"}


def _modules_after(*arguments: str, env: dict[str, str] | None = None) -> set[str]:
    """Top-level names of all modules that a Python process had imported when it ended."""
    command = [sys.executable, "-X", "importtime", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    lines = result.stderr.splitlines()
    printed = "\n".join(line for line in lines if not line.startswith(_TIMING))
    assert result.returncode == 0, printed
    return {line.split("|")[2].strip().split(".")[0] for line in lines if line.startswith(_TIMING)}


def test_help_imports_nothing_heavy() -> None:
    """`qm --help` answers at once."""
    loaded = _modules_after(COMMAND, "--help")
    assert "click" in loaded
    assert loaded & set(CLI_NEVER) == set()


@pytest.mark.slow
def test_list_imports_nothing_heavy(live_daemon: LiveDaemon) -> None:
    """`qm list` answers at once when a daemon runs."""
    loaded = _modules_after(COMMAND, "list", env=live_daemon.env)
    assert "click" in loaded
    assert loaded & set(CLI_NEVER) == set()


def test_daemon_starts_without_what_its_children_need() -> None:
    """An idle daemon stays small: native code and templates belong to its children."""
    assert _modules_after("-c", "import qm.daemon.__main__") & set(IDLE_DAEMON_NEVER) == set()
