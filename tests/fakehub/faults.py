"""The ways to misbehave."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = {
    "drop": "ends the connection after so many body bytes",
    "stall": "sends so many, is silent for a time, then ends the connection",
    "slow": "sends at a rate",
    "delay": "waits before it answers",
    "status": "answers with this code; 429 also tells when to come back",
    "corrupt": "changes one byte, the size stays",
    "truncate": "sends so many bytes and claims that this is all",
    "norange": "ignores Range and sends the whole file",
    "badrange": "answers with other bytes than were asked for, and says so",
    "etag": "the file seems to be another one",
    "redirect": "sends the client to `location`",
}
_NUMBERS = {"times": int, "skip": int, "bytes": int, "rate": int, "status": int, "seconds": float}


@dataclass(slots=True)
class Fault:
    """One way to misbehave, applied to the requests that match."""

    kind: str
    path: str = "*"  # fnmatch pattern: "org/name/file" for file bytes, else the URL path
    side: str = "*"  # hub, cdn
    method: str = "*"
    times: int = 1  # how many matches to hit; 0: every one; -1: used up
    skip: int = 0  # let this many matches pass first
    bytes: int = 0  # drop, stall, truncate: body bytes sent before; corrupt: offset of the bad one
    seconds: float = 1.0  # stall, delay: how long; status 429: when to come back
    rate: int = 100_000  # slow: bytes a second
    status: int = 503  # status: the code to answer
    location: str = ""  # redirect: where to

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; one of {', '.join(sorted(KINDS))}")

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Fault:
        """From JSON or a query string, whose values are all text."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{k: _NUMBERS.get(k, str)(v) for k, v in values.items() if k in known})

    def hits(self, side: str, method: str, target: str) -> bool:
        """Whether it applies to this request; counts the match either way."""
        patterns = ((side, self.side), (method, self.method), (target, self.path))
        if self.times < 0 or not all(fnmatch.fnmatchcase(*pair) for pair in patterns):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times:
            self.times = self.times - 1 or -1
        return True
