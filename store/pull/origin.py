"""Where a blob was downloaded from, and digests of its beginnings: what a repair goes by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from ..durable import replace_file
from ..errors import QmError
from ..layout import Layout
from ..locks import publishing


class OriginUnreadable(QmError):
    """The record of where a blob came from is damaged."""

    code = "origin_unreadable"


@dataclass(frozen=True, slots=True)
class Origin:
    """`source` is as `download.Wanted` tells it; `beginnings` are sha256 by length in bytes."""

    size_bytes: int
    source: Mapping[str, str]
    beginnings: Mapping[int, str] = field(default_factory=dict)


def write_origin(layout: Layout, digest: str, origin: Origin) -> None:
    data = json.dumps(asdict(origin)).encode()
    with publishing(layout):
        replace_file(layout.origin(digest), data, temporary_in=layout.partial)


def read_origin(layout: Layout, digest: str) -> Origin | None:
    """None for a blob that was not downloaded. Raises OriginUnreadable."""
    path = layout.origin(digest)
    try:
        told = json.loads(path.read_bytes())
        beginnings = {int(length): str(text) for length, text in told["beginnings"].items()}
        return Origin(int(told["size_bytes"]), dict(told["source"]), beginnings)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OriginUnreadable(f"the record of a download is unreadable: {path}") from error
