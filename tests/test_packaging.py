"""What gets installed: every module and data file, under `qm.*` and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("cli", "daemon", "modelfiles", "store")
DATA = ("*/py.typed", "modelfiles/build/texts/*.txt", "modelfiles/examples/*")


def _run(*command: str | Path, **settings: str) -> str:
    """What the command printed; its errors fail the test."""
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | settings
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def _modules() -> set[str]:
    """Every source file as the wheel names it."""
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return {f"qm/{path.relative_to(ROOT)}" for path in files if "examples" not in path.parts}


def _data() -> set[str]:
    return {f"qm/{path.relative_to(ROOT)}" for pattern in DATA for path in ROOT.glob(pattern)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the build reads, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def built(source: Path) -> Path:
    """A directory with the sdist and the wheel that was made from the sdist."""
    _run(sys.executable, "-m", "build", "--no-isolation", source)
    return source / "dist"


def test_every_package_is_declared() -> None:
    """A new folder with code is in pyproject's list; without that it is missing in the wheel."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        "qm." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(declared["packages"]) == found | {"qm.modelfiles.examples"}  # data only


def test_every_folder_with_code_is_a_package() -> None:
    """No directory holds Python files without an __init__.py beside them."""
    holders = {ROOT / Path(module).relative_to("qm") for module in _modules()}
    assert {path.parent for path in holders if not (path.parent / "__init__.py").exists()} == set()


@pytest.mark.slow
def test_wheel_holds_every_module_and_data_file(built: Path) -> None:
    """The wheel, made from the sdist, has all of the sources, and nothing outside qm/."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    outside = {name for name in names if not name.startswith(("qm/", "qm-"))}
    assert outside == set()
    assert {name for name in names if name.startswith("qm/")} == _modules() | _data()


@pytest.mark.slow
def test_sdist_carries_licence_and_readme(built: Path) -> None:
    """Who gets the source archive gets its licence and its first page."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        files = {Path(name).name for name in archive.getnames() if name.count("/") == 1}
    assert {"LICENSE", "README.md", "pyproject.toml"} <= files


@pytest.mark.slow
def test_installed_wheel_imports_as_qm_and_has_its_command(built: Path, tmp_path: Path) -> None:
    """In an environment that has only the wheel, qm.* imports from there and `qm` runs."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    packages = Path(
        _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    wheel = next(built.glob("*.whl"))
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet", wheel)
    # The dependencies come from this environment; a plain path line runs none of its .pth files,
    # so its editable qm stays out.
    (packages / "dependencies.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    for folder in FOLDERS:
        where = _run(python, "-c", f"import qm.{folder}; print(qm.{folder}.__file__)")
        assert Path(where.strip()).is_relative_to(packages), where
    assert "Usage: qm" in _run(tmp_path / "venv/bin/qm", "--help")


def test_editable_install_imports_this_checkout() -> None:
    """The environment that runs the tests works on the files of this checkout."""
    for folder in FOLDERS:
        where = _run(sys.executable, "-c", f"import qm.{folder}; print(qm.{folder}.__file__)")
        assert Path(where.strip()).resolve() == (ROOT / folder / "__init__.py").resolve()
    found = f"import importlib.util as u; print([n for n in {FOLDERS} if u.find_spec(n)])"
    assert _run(sys.executable, "-P", "-c", found).strip() == "[]"


def test_no_source_file_is_ignored_by_git() -> None:
    """Patterns for build output leave modelfiles/build/ and its like alone."""
    files = [str(path.relative_to("qm")) for path in map(Path, sorted(_modules() | _data()))]
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ignored.returncode, ignored.stdout) == (1, "")
