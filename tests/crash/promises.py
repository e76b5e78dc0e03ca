"""Looks at a modelled disk after each change: what would a power cut there have broken?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from qm.store.layout import Layout
from qm.store.pull.partial import parse_journal

from tests.crash.disk import Disk, violation

OTHER_BOOT = "another boot"


@dataclass(slots=True)
class Watcher:
    """`source` are the bytes of the one file that is downloaded; `wrong` is what was found."""

    layout: Layout
    source: bytes
    wrong: set[str] = field(default_factory=set)
    cuts: int = 0
    claimed_bytes: int = 0
    _seen: tuple[int, int] = (-1, 0)  # the disk's version, the journal's length

    def look(self, disk: Disk) -> None:
        """Where nothing has changed that a cut would show, nothing is looked at again."""
        journals = [path for path in disk.visible if path.name == "journal"]
        lengths = sum(len(disk.visible[path].data) for path in journals)
        version, seen = self._seen
        if (disk.version, lengths) == (version, seen):
            return
        self._seen = disk.version, lengths
        for path in journals:
            self._claims(path, bytes(disk.visible[path].data), disk)
        for files in disk.aftermaths() if disk.version != version else ():
            self.cuts += 1
            if (broken := violation(self.layout, files)) is not None:
                self.wrong.add(broken)

    def _claims(self, path: Path, journal: bytes, disk: Disk) -> None:
        """The journal may have got to the disk by itself: what it calls synced must be there."""
        noted = parse_journal(journal, len(self.source), OTHER_BOOT)
        data = disk.visible.get(path.with_name("data"))
        if noted is None:
            return
        durable = b"" if data is None else data.synced
        self.claimed_bytes = max(self.claimed_bytes, noted.have.total)
        for start, stop in noted.have:
            if durable[start:stop] != self.source[start:stop]:
                self.wrong.add("promise 5: the journal claims bytes that are not there")
