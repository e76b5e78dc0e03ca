"""A real OCI registry on loopback: Debian's docker-registry, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_READY_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry: `host` is its address as it stands in model names."""

    host: str
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}"


@contextmanager
def running_registry(folder: Path) -> Iterator[Registry]:
    """Serves until the context ends; what is pushed lies in `folder`."""
    command, address = _command(), f"127.0.0.1:{_free_port()}"
    config = folder / "config.yml"
    text = (_HERE / "config.yml").read_text()
    config.write_text(text.replace("@ROOT@", str(folder / "data")).replace("@ADDRESS@", address))
    registry = Registry(address, folder / "registry.log")
    with registry.log.open("wb") as log:
        process = subprocess.Popen([command, "serve", config], stdout=log, stderr=log)
    try:
        _wait_until_ready(registry, process)
        yield registry
    finally:
        process.terminate()
        process.wait(10)


def _command() -> str:
    cache = Path(os.environ.get("QM_TEST_CACHE") or Path.home() / ".cache/qm-tests")
    unpacked = cache / "docker-registry/usr/bin/docker-registry"
    found = shutil.which("docker-registry") or (str(unpacked) if unpacked.exists() else None)
    if found is None:
        pytest.fail(
            "docker-registry is missing: run tests/registry/install.sh, or install it "
            "(Debian, Ubuntu: apt-get install docker-registry)"
        )
    return found


def _wait_until_ready(registry: Registry, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{registry.url}/v2/", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    pytest.fail(f"the registry did not come up:\n{registry.log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
