"""Which kind of file system a path is on: kernel locks don't hold on all of them."""

from __future__ import annotations

from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset({"nfs", "nfs4", "lustre", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs"})


def network_file_system(path: Path) -> str | None:
    """The type of the network file system that `path` is on; None for a disk, or unknown."""
    if not _MOUNTS.exists():  # not Linux
        return None
    kind = file_system_type(path.resolve(), _MOUNTS.read_text())
    return kind if kind in _NETWORK else None


def file_system_type(path: Path, mountinfo: str) -> str | None:
    """The type of the innermost mount above `path`, from the lines of proc(5) mountinfo."""
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].replace("\\040", " "))
        if path.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), after.split()[0])
    return None if best is None else best[1]
