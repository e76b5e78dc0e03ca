"""Whether llama.cpp takes a file at all, found out before a model is made of it."""

from __future__ import annotations

import os
from pathlib import Path

from qm.store.errors import InvalidRequest

from ..native import C, fill
from .native_log import native_log

_REASON = "error loading model: "


class Unloadable(InvalidRequest):
    """What became of a repository is sound, but llama.cpp has no use for it."""

    code = "unloadable"


def check_loads(path: Path) -> None:
    """Looks at the head of the file only: its tensors may still have to be written.

    Raises Unloadable.
    """
    log = native_log()
    C.llama_backend_init()
    values: dict[str, object] = {"no_alloc": True, "load_mode": 0, "n_gpu_layers": 0}
    parameters = fill(C.llama_model_default_params(), values)
    model = C.llama_model_load_from_file(os.fsencode(path), parameters)
    if not model:
        said = [line.partition(_REASON)[2] for line in log.errors if _REASON in line]
        raise Unloadable(
            "the repository can be converted, but llama.cpp can't load what comes out: "
            + (said[-1] if said else "it does not say why")
        )
    C.llama_model_free(model)
