"""Clients from npm, run by node against a live daemon.

They are installed into a cache outside of the checkout, `$QM_TEST_CACHE` or ~/.cache/qm-tests.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent / "node"
LIMIT_S = 300


@pytest.fixture(scope="session")
def packages() -> Path:
    """A directory with the clients installed and our scripts beside them."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.fail("the client tests need node 20 or newer with npm: install nodejs")
    wanted = (HERE / "package.json").read_bytes()
    cache = Path(os.environ.get("QM_TEST_CACHE") or "~/.cache/qm-tests").expanduser()
    directory = cache / f"node-{hashlib.sha256(wanted).hexdigest()[:16]}"
    directory.mkdir(parents=True, exist_ok=True)
    for file in HERE.iterdir():
        shutil.copy(file, directory)
    if not (directory / "node_modules" / ".complete").exists():
        command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        if done.returncode:
            pytest.fail(f"npm could not install the clients: {done.stderr[-2000:]}")
        (directory / "node_modules" / ".complete").touch()
    return directory


@pytest.mark.parametrize("script", sorted(file.name for file in HERE.glob("*.mjs")))
def test_client(packages: Path, live_daemon: Any, script: str) -> None:
    host = live_daemon.json("GET", "/qm/status")["host"]
    done = subprocess.run(
        ["node", script, f"http://{host}"],
        cwd=packages,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
