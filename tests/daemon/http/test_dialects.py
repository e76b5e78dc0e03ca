"""A dialect is one file: a daemon that finds one more module speaks one more dialect."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import create

pytestmark = pytest.mark.slow
MODULE = '''
"""A made-up API: a text is asked for in the path's words, and comes back as bare text."""

from aiohttp import web
from qm.daemon.chat.request import Delta, Message, Request, Role
from qm.daemon.http.dialect import Dialect, Route
from qm.daemon.http.edge import Stream, read_fields
from qm.daemon.http.ollama_request import model_name
from qm.daemon.http.schema import NAMED, TEXT, Schema, Told, shape
from qm.daemon.keys import Scope
from qm.daemon.runner.wire import Options

_WANTED = Schema("Wish", shape(NAMED, wish=TEXT))
_ERROR = Schema("Sorry", shape({"sorry": TEXT}))


async def _grant(request, services):
    fields = await read_fields(request)
    asked = Request(
        model=model_name(fields),
        messages=(Message(Role.USER, fields.text("wish")),),
        options=Options(temperature=0.0, num_predict=4),
    )

    async def pieces():
        async for event in services.chat.answer(asked):
            if isinstance(event, Delta):
                yield event.content.encode()

    return await Stream(request, "text/plain").send(pieces())


DIALECT = Dialect(
    name="wishes",
    scope=Scope.CHAT,
    error_body=lambda error, request_id: {"sorry": error.message},
    error_schema=_ERROR,
    routes=(Route("POST", "/wishes", _grant, told=Told("Grant a wish", _WANTED, text=True)),),
)
'''
# Python runs it as it starts: the place of the file is part of the package from then on.
FOUND = """
from qm.daemon.http import dialects
dialects.__path__.append({directory!r})
"""


def test_a_dialect_is_one_file(
    start_daemon: Callable[..., Any], smollm2_gguf: Path, tmp_path: Path
) -> None:
    """One module more, and a live daemon routes, answers, refuses and tells its dialect."""
    (tmp_path / "dialects").mkdir()
    (tmp_path / "dialects/wishes.py").write_text(MODULE)
    (tmp_path / "sitecustomize.py").write_text(FOUND.format(directory=f"{tmp_path}/dialects"))
    daemon = start_daemon(PYTHONPATH=str(tmp_path))
    create(daemon, "smollm2", smollm2_gguf)
    wish = {"model": "smollm2", "wish": "What is the capital of France?"}
    status, granted = daemon.call("POST", "/wishes", wish)
    assert (status, granted.isspace() or not granted) == (200, False)
    status, sorry = daemon.call("POST", "/wishes", {**wish, "model": "nosuch"})
    assert (status, json.loads(sorry)) == (404, {"sorry": "model 'nosuch' not found"})
    told = daemon.json("GET", "/openapi.json")
    operation = told["paths"]["/wishes"]["post"]
    assert operation["tags"] == ["wishes"]
    assert set(operation["responses"]["200"]["content"]) == {"text/plain"}
    assert {"Wish", "Sorry"} <= told["components"]["schemas"].keys()
    assert daemon.call("GET", "/wishes")[0] == 405
