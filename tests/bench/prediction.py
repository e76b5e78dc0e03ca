"""How far placement's predictions are from what llama.cpp then allocates, device by device.

    python tests/bench/prediction.py MODEL.gguf...          on the CPU
    QM_RPC=… QM_GPU_MEMORY=… python tests/bench/prediction.py MODEL.gguf...

Starts a daemon of its own. Prints one row a load, and how long each decision took, first without
and then with cached facts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("qm")
CONTEXTS = (512, 4096, 8192)
KV_TYPES = ("f16", "q8_0")


def qm(*arguments: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        [COMMAND, *arguments], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


def timed_plan(name: str, options: tuple[str, ...], env: dict[str, str]) -> float:
    begun = time.monotonic()
    qm("plan", name, *options, "--json", env=env)
    return time.monotonic() - begun


def measure(name: str, n_ctx: int, kv_type: str, env: dict[str, str]) -> None:
    options = ("--num-ctx", str(n_ctx), "--kv-type", kv_type)
    first, again = timed_plan(name, options, env), timed_plan(name, options, env)
    parameters = ("-p", f"num_ctx={n_ctx}", "-p", f"kv_type={kv_type}", "-p", "num_predict=1")
    qm("run", name, *parameters, "hi", env=env)
    (row,) = json.loads(qm("ps", "--json", env=env))
    for one in [*row["qm"]["devices"], row["qm"] | {"device": "total"}]:
        print(_line(name, n_ctx, kv_type, one))
    print(f"{name:10} decided in {first:.2f} s, again in {again:.2f} s (qm's start included)")
    qm("stop", name, env=env)


def _line(name: str, n_ctx: int, kv_type: str, one: dict[str, Any]) -> str:
    predicted, actual = one["predicted_bytes"], one["actual_bytes"]
    off = 100 * (predicted - actual) / actual
    return (
        f"{name:10} {n_ctx:5} {kv_type:5} {one['device']:6} predicted {predicted / 2**20:8.2f} MiB"
        f"  actual {actual / 2**20:8.2f} MiB  {off:+.2f} %"
    )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="qm-", dir="/tmp") as home:
        config = Path(home, "qm.toml")
        config.touch()
        env = os.environ | {"QM_HOME": home, "QM_HOST": "off", "QM_CONFIG": str(config)}
        try:
            for number, path in enumerate(sys.argv[1:]):
                name = f"model{number}"
                qm("create", name, "--from", path, env=env)
                for n_ctx in CONTEXTS:
                    for kv_type in KV_TYPES:
                        measure(name, n_ctx, kv_type, env)
        finally:
            qm("shutdown", env=env)


if __name__ == "__main__":
    main()
