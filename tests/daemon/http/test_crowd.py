"""Two hundred clients at once: a bounded queue, nobody forgotten."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .conftest import create

pytestmark = pytest.mark.slow
CLIENTS, WAITING, SLOTS = 200, 20, 4
ASKED = {
    "model": "smol",
    "prompt": "Hi",
    "raw": True,
    "stream": False,
    "options": {"temperature": 0, "num_predict": 2},
}
ENDLESS = ASKED | {"stream": True, "options": {"num_predict": 100_000, "ignore_eos": True}}


@pytest.fixture
def crowded(start_daemon: Callable[..., Any], smollm2_gguf: Path) -> Any:
    daemon = start_daemon(QM_MAX_QUEUE=str(WAITING), QM_NUM_PARALLEL=str(SLOTS))
    create(daemon, "smol", smollm2_gguf)
    return daemon


async def test_everybody_is_answered_or_told_to_come_back(crowded: Any) -> None:
    """While all slots are taken so many wait, and the others are told; then those are served."""
    url = f"http://{crowded.json('GET', '/qm/status')['host']}/api/generate"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, AsyncExitStack() as slots:
        for _ in range(SLOTS):
            taken = await slots.enter_async_context(session.post(url, json=ENDLESS))
            await taken.content.readline()

        async def ask() -> tuple[int, str]:
            async with session.post(url, json=ASKED) as answer:
                return answer.status, await answer.text()

        asked = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
        refused = [await each for each in islice(asyncio.as_completed(asked), CLIENTS - WAITING)]
        assert Counter(status for status, _ in refused) == {503: CLIENTS - WAITING}
        assert all("busy" in json.loads(text)["error"] for _, text in refused)
        assert sum(not task.done() for task in asked) == WAITING
        await slots.aclose()
        answers = await asyncio.gather(*asked)
    served = [json.loads(text) for status, text in answers if status == 200]
    assert len(served) == WAITING
    assert {(document["response"], document["eval_count"]) for document in served} == {
        (served[0]["response"], 2)
    }
