"""`/openapi.json`: every route with what it takes and what it answers, as the routes say it."""

from __future__ import annotations

from importlib.metadata import version

from aiohttp import web

from ...keys import Scope
from ...services import Services
from ..dialect import SPOKEN, Dialect, Route
from ..edge import answer
from ..openapi import openapi_document
from ..schema import ANY, Told


async def _tell(request: web.Request, _services: Services) -> web.Response:
    dialects = request.app[SPOKEN]
    return answer(openapi_document(dialects, version("qm")))


DIALECT = Dialect(
    name="openapi",
    scope=Scope.CHAT,
    routes=(Route("GET", "/openapi.json", _tell, told=Told("This document", response=ANY)),),
)
