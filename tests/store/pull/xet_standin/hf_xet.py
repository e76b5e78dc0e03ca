"""Stands in for hf_xet: the names that qm uses, and bytes from wherever the pass says.

HF_XET_STANDIN tells how it behaves; the storage behind the real one is not to be had in a test.
"""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Self

HOW = os.environ.get("HF_XET_STANDIN", "good")
HALF_BYTES = 3 << 20
_PIECE_BYTES = 64 << 10

if HOW == "missing":
    raise ImportError("hf_xet is not here")


class XetConfig:
    def __iter__(self) -> Iterator[tuple[str, object]]:
        yield "telemetry.enabled", True

    def with_config(self, name: str, value: object) -> XetConfig:
        assert (name, value) == ("telemetry.enabled", False)
        return self


class XetFileInfo:
    def __init__(self, hash: str, file_size: int) -> None:
        self.hash, self.file_size = hash, file_size


class XetSession:
    def __init__(self, config: XetConfig) -> None:
        self.config = config

    def new_download_stream_group(
        self,
        *,
        endpoint: str,
        token: str,
        token_expiry_unix_secs: int,
        token_refresh_url: str,
        token_refresh_headers: Mapping[str, str],
        custom_headers: Mapping[str, str],
    ) -> Group:
        assert token == "xet-pass"
        assert "/xet-read-token/" in token_refresh_url
        return Group(endpoint)


class Group:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.abort()

    def abort(self) -> None:
        """Nothing goes on behind the stream's back here."""

    def download_stream(self, info: XetFileInfo) -> Iterator[bytes]:
        asked = urllib.request.Request(self.endpoint, headers={"User-Agent": "stand-in"})
        with urllib.request.urlopen(asked) as answer:
            for at in range(0, info.file_size, _PIECE_BYTES):
                if at == HALF_BYTES:
                    _act()
                    if HOW == "short":
                        return
                piece = answer.read(min(_PIECE_BYTES, info.file_size - at))
                yield b"?" * len(piece) if HOW == "wrong" else piece
        if HOW == "long":
            yield b"?"


def _act() -> None:
    if HOW == "breaks":
        raise RuntimeError("the storage went away")
    if HOW == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
