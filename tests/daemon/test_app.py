"""The application: who is answered over the unix socket, and what closing the services ends."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from qm.daemon.app import build_app, running_services
from qm.daemon.services import Lifecycle, Services
from qm.daemon.settings import load_settings
from qm.store.store import open_store


@pytest.fixture
def home() -> Iterator[Path]:
    """Short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="qm-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
async def services(home: Path) -> AsyncIterator[Services]:
    """All of them, on an empty store."""
    settings = load_settings({"QM_HOME": str(home), "QM_CONFIG": os.devnull})
    async with running_services(settings, open_store(home), Lifecycle()) as services:
        yield services


@pytest.fixture
async def client(services: Services) -> AsyncIterator[aiohttp.ClientSession]:
    """Speaks to the application over its unix socket."""
    runner = web.AppRunner(build_app(services))
    await runner.setup()
    await web.UnixSite(runner, str(services.settings.socket)).start()
    connector = aiohttp.UnixConnector(str(services.settings.socket))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session
    await runner.cleanup()


async def test_this_user_is_answered(client: aiohttp.ClientSession) -> None:
    """Whose daemon it is."""
    async with client.get("http://qm/health") as response:
        assert response.status == 200


async def test_another_user_is_not(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the socket's mode let him connect: nothing is said or done."""
    monkeypatch.setattr("qm.daemon.app.peer_uid", lambda _connection: os.getuid() + 1)
    async with client.get("http://qm/qm/status") as response:
        assert response.status == 403
        assert await response.read() == b""


async def test_a_body_is_limited(client: aiohttp.ClientSession) -> None:
    """65 MiB of prompt are refused, not swallowed."""
    body = io.BytesIO(b" " * (65 << 20))
    async with client.post("http://qm/api/generate", data=body) as response:
        assert response.status == 413
        assert "QM_MAX_BODY_BYTES" in (await response.json())["error"]
