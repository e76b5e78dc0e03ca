"""The HTTP client that huggingface_hub asks with: answers are bounded in bytes, however they are
packed, and in time.
"""

from __future__ import annotations

import importlib
import sys
import time
import zlib
from collections.abc import Iterator
from typing import Any

from huggingface_hub import set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils._http import default_client_factory

from .answers import MOST_ANSWER_BYTES, MOST_ANSWER_S, AnswerRefused

TRANSPORT_ERROR: type[Exception] = HfHubHTTPError.__mro__[1]
_httpx: Any = importlib.import_module(
    sys.modules[TRANSPORT_ERROR.__module__].__package__ or "httpx"
)
# Any: httpx or its successor, whichever huggingface_hub is built on

_PIECE_BYTES = 1 << 16
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_PLAIN, _PACKED = frozenset({"", "identity"}), frozenset({"gzip", "deflate"})


def bound_answers() -> None:
    """From now on every question of huggingface_hub in this process is asked so."""
    set_client_factory(_client)


def _client() -> Any:  # Any: the client's type is the transport's, see above
    client = default_client_factory()
    client.headers["Accept-Encoding"] = "identity"
    hooks = client.event_hooks
    client.event_hooks = hooks | {"response": [*hooks["response"], _bound]}
    return client


def _bound(response: Any) -> None:  # Any: as above
    """Called before anything of the body is read. Raises AnswerRefused."""
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in _PLAIN | _PACKED:
        raise AnswerRefused(f"the hub packs its answers ({coding[:40]}), which was not asked for")
    announced = response.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MOST_ANSWER_BYTES and _has_body(response):
        raise _too_long()
    response.headers.pop("content-encoding", None)  # it is unpacked here
    response.stream = _Bounded(response.stream, packed=coding in _PACKED)


def _has_body(response: Any) -> bool:  # Any: as above
    return bool(response.request.method != "HEAD")


class _Bounded(_httpx.SyncByteStream):  # type: ignore[misc]  # Any, see above
    """A body of at most MOST_ANSWER_BYTES, packed and unpacked, within MOST_ANSWER_S."""

    def __init__(self, stream: Any, *, packed: bool) -> None:  # Any: as above
        self._stream = stream
        self._unpacker = zlib.decompressobj(_GZIP_OR_ZLIB) if packed else None
        self._until_s = time.monotonic() + MOST_ANSWER_S
        self._came_bytes = self._made_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for data in self._stream:
            self._came_bytes += len(data)
            self._check()
            for piece in self._unpacked(data):
                self._made_bytes += len(piece)
                self._check()
                yield piece

    def close(self) -> None:
        self._stream.close()

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        if self._unpacker is None:
            yield data
            return
        try:
            while data and not self._unpacker.eof:
                yield self._unpacker.decompress(data, _PIECE_BYTES)
                data = self._unpacker.unconsumed_tail
        except zlib.error as error:
            raise AnswerRefused(f"the hub's answer can't be unpacked: {error}") from error

    def _check(self) -> None:
        if max(self._came_bytes, self._made_bytes) > MOST_ANSWER_BYTES:
            raise _too_long()
        if time.monotonic() > self._until_s:
            raise AnswerRefused(f"the hub took over {MOST_ANSWER_S:.0f} s for one answer")


def _too_long() -> AnswerRefused:
    return AnswerRefused(f"the hub's answer is longer than {MOST_ANSWER_BYTES >> 20} MiB")
