"""Bodies that clients sent compressed: unpacked to no more than a plain one may have."""

from __future__ import annotations

import zlib

from qm.store.errors import InvalidRequest, QmError

_ANY_HEADER = 32 + zlib.MAX_WBITS  # of gzip or of zlib
_PLAIN = ("", "identity")


class BodyTooLarge(QmError):
    """The body is over the limit; nothing of it was used."""

    status = 413
    code = "body_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request body is larger than {limit_bytes} bytes (QM_MAX_BODY_BYTES)")
        self.limit_bytes = limit_bytes


class UnknownEncoding(QmError):
    """The body is packed in a way that we don't unpack."""

    status = 415
    code = "unknown_encoding"

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"Content-Encoding {encoding[:40]!r} is not read: use gzip, deflate or none"
        )


class BrokenEncoding(InvalidRequest):
    """The body is not what its Content-Encoding says."""

    code = "broken_encoding"


def is_plain(encoding: str) -> bool:
    return encoding.strip().lower() in _PLAIN


def unpacked(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The plain body. Raises UnknownEncoding, BrokenEncoding and BodyTooLarge."""
    if is_plain(encoding):
        return body
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise UnknownEncoding(encoding)
    unpacker = zlib.decompressobj(_ANY_HEADER)
    try:
        plain = unpacker.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise BrokenEncoding(f"the body is no {encoding}: {error}") from error
    if len(plain) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    if not unpacker.eof:
        raise BrokenEncoding(f"the body is no whole {encoding}")
    return plain
