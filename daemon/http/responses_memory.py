"""Responses that later requests may go on from: kept in memory, the oldest forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import msgspec
from qm.store.errors import InvalidRequest, NotFound

from ..chat.request import JsonObject, Message


class ResponseNotFound(NotFound):
    """No response of this id is kept, or not any more."""

    code = "response_not_found"

    def __init__(self, response_id: str) -> None:
        super().__init__(
            f"no response {response_id[:100]!r} is kept: they live in memory, the latest only"
        )


class PreviousNotFound(InvalidRequest):
    """What a request wants to go on from is not kept."""

    code = "previous_response_not_found"
    field = "previous_response_id"

    def __init__(self, error: ResponseNotFound) -> None:
        super().__init__(error.message)


class ItemNotFound(InvalidRequest):
    """An input item refers to one that is not kept."""

    code = "item_not_found"
    field = "input"

    def __init__(self, item_id: str) -> None:
        super().__init__(
            f"input: no item {item_id[:100]!r} is kept: they live in memory, with the latest "
            "responses; send the item itself"
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """One response: its document, the conversation up to and with it, and what was put in."""

    document: JsonObject
    turns: tuple[Message, ...]
    items: tuple[JsonObject, ...]  # of the input, those of earlier responses first
    n_bytes: int


class ResponseMemory:
    """At most so many responses and bytes."""

    def __init__(self, most: int = 256, most_bytes: int = 64 * 1024 * 1024) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._n_bytes = 0

    def keep(
        self, document: JsonObject, turns: tuple[Message, ...], items: tuple[JsonObject, ...]
    ) -> None:
        """Takes the place of what is kept of the same response."""
        if document["id"] in self._kept:
            self.forget(document["id"])
        n_bytes = sum(len(msgspec.json.encode(each)) for each in (document, *items))
        n_bytes += sum(_bytes(turn) for turn in turns)
        self._kept[document["id"]] = Kept(document, turns, items, n_bytes)
        self._n_bytes += n_bytes
        while len(self._kept) > self._most or self._n_bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._n_bytes -= oldest.n_bytes

    def get(self, response_id: str) -> Kept:
        """Raises ResponseNotFound. What is used stays longer."""
        if response_id not in self._kept:
            raise ResponseNotFound(response_id)
        self._kept.move_to_end(response_id)
        return self._kept[response_id]

    def before(self, response_id: str) -> Kept:
        """What a request goes on from. Raises PreviousNotFound."""
        try:
            return self.get(response_id)
        except ResponseNotFound as error:
            raise PreviousNotFound(error) from error

    def item(self, item_id: str) -> JsonObject:
        """What was put into a response, or came out of it. Raises ItemNotFound."""
        for kept in reversed(self._kept.values()):
            items: tuple[JsonObject, ...] = (*kept.document["output"], *kept.items)
            for item in items:
                if item.get("id") == item_id:
                    return item
        raise ItemNotFound(item_id)

    def forget(self, response_id: str) -> None:
        """Raises ResponseNotFound."""
        self._n_bytes -= self.get(response_id).n_bytes
        del self._kept[response_id]


def _bytes(turn: Message) -> int:
    texts = [turn.content, turn.thinking, *(call.arguments_json() for call in turn.tool_calls)]
    return 500 + sum(map(len, texts)) + sum(map(len, turn.images))
