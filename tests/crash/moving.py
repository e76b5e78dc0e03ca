"""Moves of stores in processes of their own, which die before a given change of the disk.

    python -m tests.crash.moving     reads lines of JSON orders {"home", "target", "far", "step"},
                                     does each in a fork, prints the number of steps or `killed`

`far`: as if the target were on another file system.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from qm.store import transplant
from qm.store.move import begin, bring, clean, switch
from qm.store.store import open_store

from tests.crash import publishing


def move(home: Path, target: Path) -> None:
    """All of it, as the daemon does it."""
    store = open_store(home)
    one = begin(home, target)
    bring(one)
    switch(one, store.layout)
    assert store.layout.root == target
    clean(one)


def separate(home: Path) -> None:
    """Links from the store to elsewhere fail as between file systems."""
    link = os.link

    def separated(source: Any, target: Any, **options: Any) -> None:  # Any: paths of any kind
        if Path(source).is_relative_to(home) != Path(target).is_relative_to(home):
            raise OSError(errno.EXDEV, "another file system")
        link(source, target, **options)

    setattr(os, "link", separated)  # noqa: B010  mypy knows its type better than we need it
    setattr(transplant, "clone", lambda _fd, _source: False)  # noqa: B010  likewise


def in_fork(order: dict[str, Any]) -> str:
    home, target = Path(order["home"]), Path(order["target"])
    answer = home.parent / "steps"
    child = os.fork()
    if child == 0:
        if order["far"]:
            separate(home)
        steps = publishing.count_steps(order["step"])
        move(home, target)
        answer.write_text(str(steps()))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return "killed"
    return answer.read_text() if status == 0 else "failed"


def main() -> None:
    for line in sys.stdin:
        print(in_fork(json.loads(line)), flush=True)  # noqa: T201  the answer to the test


if __name__ == "__main__":
    main()
