"""Pulls in processes like our jobs, so that the environment is what counts."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from qm.daemon.runner.environment import network_environment
from qm.store import store as tested
from qm.store.store import open_store

_OURS = str(Path(tested.__file__).parents[2])  # the package that is tested, whatever is installed
WEIGHTS = b"GGUF" + bytes(range(256)) * 20000
DIGEST = f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"
SMALL = b'{"temperature": 0.5}'
PULL = """
import sys
from pathlib import Path
from qm.store.errors import QmError
from qm.store.leases import hold
from qm.store.pull.download import Limits
from qm.store.pull.fetch import RepoFetch
from qm.store.pull.hub import list_repo
from qm.store.pull.throttle import Throttle
from qm.store.store import open_store
store = open_store(Path(sys.argv[1]))
try:
    listing = list_repo("org/tiny")
    with hold(store.layout) as lease:
        limits = Limits(stall_s=5.0, patience=2, throttle=Throttle(float(sys.argv[2])))
        fetched = RepoFetch(store, lease, listing, lambda step: None, limits).fetch(listing.files)
    print(*sorted(fetched))
except QmError as error:
    print(f"{error.code}: {error.message}")
"""


@dataclass(frozen=True)
class Puller:
    """Pulls in a fresh process that knows what a job of the daemon would."""

    directory: Path
    bytes_per_s: float = 0.0

    def pull(self, **environment: str) -> str:
        """What it says at its end."""
        done = self.run(**environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        asked = {"HOME": str(self.directory), "HF_HOME": str(self.directory / "hf")} | environment
        paths = [*filter(None, [asked.get("PYTHONPATH")]), _OURS]
        kept = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(paths)}
        return subprocess.run(
            [sys.executable, "-c", PULL, str(self.directory / "store"), str(self.bytes_per_s)],
            env=network_environment(asked | kept),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=Path(__file__).parents[3],
        )

    def has_weights(self) -> bool:
        return open_store(self.directory / "store").blobs.has(DIGEST)


def make_repo(root: Path, **config: object) -> Path:
    folder = root / "org/tiny"
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(WEIGHTS)
    (folder / "params").write_bytes(SMALL)
    (folder / ".fakehub.json").write_text(json.dumps(config))
    return root
