"""The tools that a request offers, known to be what a template and a grammar can read. Pure."""

from __future__ import annotations

from ..chat.request import JsonObject
from .fields import Fields, as_object


def tool_documents(fields: Fields, of: str) -> tuple[JsonObject, ...]:
    """`tools`, each of the type `of` in the words of errors, as they came. Raises WrongType."""
    return tuple(_tool(item, path, of) for path, item in fields.items("tools", of))


def function_document(value: object, path: str, of: str) -> JsonObject:
    """One function of a tool, as it came. Raises WrongType."""
    document = as_object(value, path, of)
    function = Fields(document, path)
    function.text("name")
    function.text("description")
    function.fields("parameters").document("properties")
    return document


def _tool(value: object, path: str, of: str) -> JsonObject:
    """A function stands in it, or it is one itself."""
    document = as_object(value, path, of)
    inner = document.get("function")
    if inner is None:
        return function_document(document, path, of)
    function_document(inner, f"{path}.function", of)
    return document
