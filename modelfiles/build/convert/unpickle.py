"""Checkpoints that are pickles, as safetensors: only when asked for, in a process of their own.

    python -m qm.modelfiles.build.convert.child qm.modelfiles.build.convert.unpickle SOURCE OUT

is that process. It lets torch load tensors and plain containers, no other classes, one file at a
time; whatever a pickle makes of that, there are no secrets and no network around it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from .child import run_module
from .errors import ConversionError, PickleRefused
from .shards import Stored
from .source import stored_tensors

_PATTERNS = ("pytorch_model*.bin", "model*.bin", "*.pth", "*.pt", "*.bin")


class NoTorch(ConversionError):
    """Pickles can only be read with torch."""

    code = "no_torch"

    def __init__(self) -> None:
        super().__init__("opening a pickle needs torch; install it: pip install 'qm[convert]'")


class Weights:
    """Reads the tensors of repositories; those of pickles too, if that is allowed."""

    def __init__(self, scratch: Path, *, allow_pickle: bool) -> None:
        self._scratch = scratch
        self._allow_pickle = allow_pickle

    def read(self, path: Path) -> dict[str, Stored]:
        try:
            return stored_tensors(path)
        except PickleRefused:
            if not self._allow_pickle:
                raise
        opened = Path(tempfile.mkdtemp(dir=self._scratch))
        unpickle(path, opened)
        return stored_tensors(opened)


def unpickle(source: Path, scratch: Path) -> None:
    """Writes the weights of `source` as safetensors into `scratch`."""
    if find_spec("torch") is None:
        raise NoTorch
    arguments = [str(source.resolve()), str(scratch)]
    run_module(__name__, arguments, scratch, f"opening the pickles of {source.name}")


def pickles_of(source: Path) -> list[Path]:
    """The files that hold the model, without an optimiser's state and the like."""
    for pattern in _PATTERNS:
        found = sorted(path for path in source.glob(pattern) if path.is_file())
        found = [path for path in found if not path.name.startswith(("optimizer", "training_args"))]
        if found:
            return found
    return []


def main() -> None:
    import torch  # noqa: PLC0415  in the child only
    from safetensors.torch import save_file  # noqa: PLC0415

    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    for number, path in enumerate(pickles_of(source), 1):
        state = torch.load(path, map_location="cpu", weights_only=True)
        nested = state.get("state_dict", state.get("model", state))
        tensors = _tensors(nested if isinstance(nested, Mapping) else state)
        save_file(tensors, out / f"model-{number:05}.safetensors")


def _tensors(state: Mapping[str, object]) -> dict[str, object]:
    """Tensors only, each with memory of its own."""
    import torch  # noqa: PLC0415

    return {
        name: value.detach().contiguous().clone()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }


if __name__ == "__main__":
    main()
