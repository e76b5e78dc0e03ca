"""The items that were put into a response, and lists of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..chat.request import JsonObject
from .content import new_id
from .fields import Fields
from .ollama_request import InvalidField

_PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
}
_MOST_ITEMS = 100
_USUAL_ITEMS = 20


def input_items(fields: Fields) -> tuple[JsonObject, ...]:
    """The input of a body of `/v1/responses`, which is known to be well formed."""
    value = fields.raw("input")
    if isinstance(value, str):
        value = [{"role": "user", "content": value}] if value else []
    return tuple(_item(each) for each in value or ())


def _item(written: JsonObject) -> JsonObject:
    kind = written.get("type") or "message"
    item = {"id": new_id(_PREFIXES.get(kind, "rs_")), "status": "completed", **written}
    item["type"] = kind
    if kind == "message" and isinstance(content := item.get("content"), str | None):
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        notes: JsonObject = {"annotations": []} if part == "output_text" else {}
        item["content"] = [{"type": part, "text": content or "", **notes}]
    return item


def with_items(fields: Fields, find: Callable[[str], JsonObject]) -> Fields:
    """A body with the items themselves where it only refers to them, as Vercel's SDK does."""
    value = fields.raw("input")
    if not isinstance(value, list) or not any(map(_is_reference, value)):
        return fields
    items = [find(str(each.get("id"))) if _is_reference(each) else each for each in value]
    return fields.replaced("input", items)


def _is_reference(item: object) -> bool:
    """Its type may be left out."""
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and item.keys() == {"id"})


def page(items: Sequence[JsonObject], query: dict[str, str]) -> JsonObject:
    """One page of a list, the newest first unless asked otherwise. Raises InvalidField."""
    limit = query.get("limit", str(_USUAL_ITEMS))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= _MOST_ITEMS:
        raise InvalidField(
            f"limit must be between 1 and {_MOST_ITEMS}, not {limit[:100]!r}", "limit"
        )
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidField(f"order must be asc or desc, not {order[:100]!r}", "order")
    ordered = list(items if order == "asc" else reversed(items))
    left = _behind(ordered, query.get("after", ""))
    rows = left[: int(limit)]
    return {
        "object": "list",
        "data": rows,
        "first_id": rows[0]["id"] if rows else None,
        "last_id": rows[-1]["id"] if rows else None,
        "has_more": len(rows) < len(left),
    }


def _behind(items: list[JsonObject], item_id: str) -> list[JsonObject]:
    if not item_id:
        return items
    for index, item in enumerate(items):
        if item["id"] == item_id:
            return items[index + 1 :]
    raise InvalidField(f"after: the list has no item {item_id[:100]!r}", "after")
