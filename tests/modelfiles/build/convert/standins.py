"""Stand-ins for torch, which is huge: enough of it to see what a child is asked, and with what."""

from __future__ import annotations

import json
from pathlib import Path

# Loads a "pickle" that is JSON: enough to see that the child is asked, and with what
TORCH = """
import json
class Tensor:
    def __init__(self, values): self.values = values
    def detach(self): return self
    contiguous = clone = detach
def load(path, map_location, weights_only):
    assert map_location == "cpu" and weights_only is True
    with open(path) as file:
        return {name: Tensor(values) for name, values in json.load(file).items()}
"""
SAVE = """
import safetensors.numpy, numpy
def save_file(tensors, path):
    arrays = {name: numpy.array(t.values, numpy.float32) for name, t in tensors.items()}
    safetensors.numpy.save_file(arrays, path)
"""


def write_torch(packages: Path) -> None:
    """Puts the stand-ins where Python imports from."""
    (packages / "torch.py").write_text(TORCH)
    (packages / "sitecustomize.py").write_text(
        "import sys, types\nmodule = types.ModuleType('safetensors.torch')\n"
        f"exec({SAVE!r}, module.__dict__)\nsys.modules['safetensors.torch'] = module\n"
    )


def pickle_weights(repository: Path) -> None:
    """Stores a repository's weights in the way that the stand-in reads."""
    from safetensors.numpy import load_file

    arrays = load_file(repository / "model.safetensors")
    (repository / "model.safetensors").unlink()
    text = json.dumps({name: array.tolist() for name, array in arrays.items()})
    (repository / "pytorch_model.bin").write_text(text)
