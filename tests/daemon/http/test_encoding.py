"""Compressed bodies are unpacked to no more than a plain one may have."""

from __future__ import annotations

import gzip
import zlib

import pytest
from qm.daemon.http.encoding import BodyTooLarge, BrokenEncoding, UnknownEncoding, unpacked

BODY = b'{"model":"m"}'


def test_what_is_read() -> None:
    assert unpacked(BODY, "identity", 10) == BODY, "plain bodies were bounded while they were read"
    assert unpacked(gzip.compress(BODY), "gzip", 100) == BODY
    assert unpacked(gzip.compress(BODY), " X-GZIP", 100) == BODY
    assert unpacked(zlib.compress(BODY), "deflate", 100) == BODY
    assert unpacked(gzip.compress(BODY), "gzip", len(BODY)) == BODY


@pytest.mark.parametrize(
    ("body", "encoding", "error"),
    [
        (gzip.compress(b"a" * 1_000_000, mtime=0), "gzip", BodyTooLarge),
        (gzip.compress(BODY, mtime=0)[:-9], "gzip", BrokenEncoding),
        (b"", "gzip", BrokenEncoding),
        (BODY, "deflate", BrokenEncoding),
        (BODY, "br", UnknownEncoding),
        (BODY, "gzip, gzip", UnknownEncoding),
    ],
)
def test_what_is_refused(body: bytes, encoding: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        unpacked(body, encoding, 1000)
