"""Serves a folder of repositories: `python -m tests.fakehub FOLDER`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from pathlib import Path

from .hub import FakeHub


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="folder of org/name repositories")
    parser.add_argument("--port", type=int, default=8780)
    parser.add_argument("--lfs-bytes", type=int, default=10 << 20, help="size of an LFS file")
    parser.add_argument("--link-seconds", type=float, default=3600, help="life of a CDN link")
    parser.add_argument("--xet", action="store_true", help="advertise xet storage, have none")
    options = vars(parser.parse_args())
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(FakeHub(options.pop("root"), **options).run())


if __name__ == "__main__":
    main()
