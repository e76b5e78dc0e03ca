"""Runs a program under strace and reads what that wrote: the calls of all its processes, in order.

A call that others overtook has an entry of its own, before theirs, and ends behind them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

CALLS: Final = (
    *("open", "openat", "creat", "lseek", "write", "writev", "pwrite64", "pwritev", "pwritev2"),
    *("fsync", "fdatasync", "link", "linkat", "symlink", "symlinkat", "rename", "renameat"),
    *("renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "truncate", "ftruncate"),
    *("fallocate", "copy_file_range", "sendfile", "splice"),
)
_LONGEST_TEXT: Final = 1 << 26
_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_ENDED = re.compile(r"(.*)\) += (-?\d+)(.*)")
_ARGUMENT = re.compile(
    r'"(?P<text>[^"]*)"'
    r"|(?P<fd>AT_FDCWD|-?\d+)<(?P<path>[^>]*)>(?P<gone>\(deleted\))?"
    r'|(?P<word>[^," ][^,"]*)'
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open file, by the name that it has by now, or had when it was `gone`."""

    path: Path
    gone: bool


Argument: TypeAlias = bytes | Descriptor | str


@dataclass(frozen=True, slots=True)
class Call:
    """`result` is None while it is under way; `opened` is the file that it opened."""

    pid: int
    name: str
    arguments: tuple[Argument, ...]
    result: int | None = None
    opened: Descriptor | None = None


def why_not() -> str | None:
    """Why nothing can be traced here, None if it can be."""
    if shutil.which("strace") is None:
        return "no strace here: apt-get install strace"
    tried = subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-e", "trace=fsync", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return None if tried.returncode == 0 else f"strace can't trace here: {tried.stderr.strip()}"


def trace(command: Sequence[str | Path], into: Path, env: Mapping[str, str]) -> None:
    """Runs the command to its end; `into` gets every call that changes files."""
    options = ["-f", "--seccomp-bpf", "-y", "-xx", "-s", str(_LONGEST_TEXT), "-o", str(into)]
    subprocess.run(
        ["strace", *options, "-e", f"trace={','.join(CALLS)}", *map(str, command)],
        env=env, cwd=Path(__file__).parents[2], check=True, timeout=300,
    )  # fmt: skip


def read_calls(path: Path, about: Path) -> Iterator[Call]:
    """Each successful call on files below `about`, when it begins and again when it has ended."""
    mark = "".join(f"\\x{byte:02x}" for byte in str(about).encode())
    pending: dict[int, str] = {}
    with path.open(encoding="ascii") as lines:
        for line in lines:
            yield from _events(line.rstrip("\n"), mark, pending)


def _events(line: str, mark: str, pending: dict[int, str]) -> Iterator[Call]:
    match = _LINE.fullmatch(line)
    if match is None:
        return
    pid, text = int(match[1]), match[2]
    if resumed := _RESUMED.fullmatch(text):
        begun = pending.pop(pid, None)
        if begun is not None:
            yield from _ended(pid, begun + resumed[2])
    elif mark not in text or text.startswith(("+++", "---")):
        return
    elif text.endswith(" <unfinished ...>"):
        pending[pid] = text.removesuffix(" <unfinished ...>")
        yield _call(pid, pending[pid])
    else:
        for call in _ended(pid, text):
            yield replace(call, result=None, opened=None)
            yield call


def _ended(pid: int, text: str) -> Iterator[Call]:
    """Nothing where the call failed: it changed nothing."""
    match = _ENDED.fullmatch(text)
    if match is None or int(match[2]) < 0:
        return
    opened = _ARGUMENT.fullmatch(match[2] + match[3]) if match[3].startswith("<") else None
    begun = _call(pid, match[1])
    where = _value(opened) if opened is not None else None
    assert where is None or isinstance(where, Descriptor)
    yield Call(pid, begun.name, begun.arguments, int(match[2]), where)


def _call(pid: int, text: str) -> Call:
    name, _, rest = text.partition("(")
    return Call(pid, name, tuple(_value(found) for found in _ARGUMENT.finditer(rest)))


def _value(found: re.Match[str]) -> Argument:
    if found["text"] is not None:
        return _unpacked(found["text"])
    if found["path"] is not None:
        return Descriptor(Path(_unpacked(found["path"]).decode()), bool(found["gone"]))
    return found["word"].strip()


def _unpacked(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
