"""The document of `/openapi.json`, put together from what routes say of themselves. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ..chat.request import JsonObject
from .dialect import Dialect, Route
from .schema import JSON_TYPE, NDJSON_TYPE, SSE_TYPE, Schema, Told

# What may befall any request. 500 is not among them: it is a defect where no model or store fails.
_ANY_STATUS = ("400", "401", "403", "404", "405", "408", "409", "413", "415", "501", "503")
# Readers of server-sent events check each by itself, others the stream's text.
_STREAMED: dict[str, JsonObject] = {
    NDJSON_TYPE: {"type": "string"},
    SSE_TYPE: {
        "type": ["string", "object"],
        "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
        "required": ["data"],
    },
}


def openapi_document(dialects: Iterable[Dialect], version: str) -> JsonObject:
    """The whole document. Routes of which nothing is told (`/qm`) are no API and left out."""
    paths: dict[str, JsonObject] = {}
    schemas: JsonObject = {}
    for dialect in dialects:
        for route in dialect.routes:
            if route.told is None:
                continue
            operations = paths.setdefault(told_path(route), {})
            for method in told_methods(route):
                operations[method.lower()] = _operation(dialect, route, route.told, method)
            used = (route.told.request, route.told.response, dialect.error_schema)
            schemas |= {schema.name: schema.document for schema in used if schema}
    return {
        "openapi": "3.1.0",
        "info": {"title": "qm", "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def told_path(route: Route) -> str:
    """The path as OpenAPI writes it: no patterns."""
    return re.sub(r"{(\w+):[^}]*}", r"{\1}", route.path)


def told_methods(route: Route) -> tuple[str, ...]:
    return (route.method, "HEAD") if route.head else (route.method,)


def _operation(dialect: Dialect, route: Route, told: Told, method: str) -> JsonObject:
    bare = method == "HEAD"  # answers without bodies
    success = {"description": "done"} if bare else _success(told)
    failure = {"description": "refused"} if bare else _failure(dialect)
    responses = {told.status: success} | dict.fromkeys((*_ANY_STATUS, *told.failures), failure)
    if told.status == "201":
        responses["200"] = {"description": "it is here already"}
    operation: JsonObject = {
        "summary": told.summary,
        "tags": [dialect.name],
        "responses": responses,
    }
    if parameters := list(_parameters(route, told)):
        operation["parameters"] = parameters
    if told.request:
        content = {told.request.media_type: {"schema": _reference(told.request)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(route: Route, told: Told) -> Iterator[JsonObject]:
    known = {word.name: word.schema for word in told.path}
    for part in told_path(route).split("/"):
        if part.startswith("{"):
            name = part[1:-1]
            schema = known.get(name, {"type": "string"})
            yield {"name": name, "in": "path", "required": True, "schema": schema}
    for word in told.query:
        yield {"name": word.name, "in": "query", "schema": word.schema}


def _success(told: Told) -> JsonObject:
    content: JsonObject = {}
    if told.response:
        content[told.response.media_type] = {"schema": _reference(told.response)}
    if told.stream:
        content[told.stream] = {"schema": _STREAMED[told.stream]}
    if told.text:
        content["text/plain"] = {"schema": {"type": "string"}}
    return {"description": "done"} | ({"content": content} if content else {})


def _failure(dialect: Dialect) -> JsonObject:
    schema = _reference(dialect.error_schema)
    content = {JSON_TYPE: {"schema": schema}, "text/plain": {"schema": {"type": "string"}}}
    return {"description": "refused", "content": content}


def _reference(schema: Schema) -> JsonObject:
    return {"$ref": f"#/components/schemas/{schema.name}"}
