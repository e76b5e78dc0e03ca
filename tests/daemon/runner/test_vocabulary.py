"""What is known of tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from qm.store.gguf import read_header

from .tiny_models import write_tiny_model

_SCRIPT = """
import json, sys
from qm.daemon.runner import wire
from qm.daemon.runner.llama_log import Log
from qm.daemon.runner.weights import Model
from qm.modelfiles.native import C

found = Model([sys.argv[1]], wire.Placement(n_ctx=64), lambda _: True, Log()).vocabulary
asked = [token for token in range(found.size) if C.llama_vocab_is_eog(found.pointer, token)]
listed = found.all_ends()
found.eos, found._all_ends = -1, None
print(json.dumps([asked, listed, found.all_ends()]))
"""


@pytest.mark.parametrize("name", ["smollm2", "tiny"])
def test_all_ends_are_found(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    """With and without a token that is known to be one."""
    if name == "tiny":
        model = write_tiny_model(tmp_path / "model.gguf", "llama")
    else:
        model = request.getfixturevalue("smollm2_gguf")
    command = [sys.executable, "-c", _SCRIPT, str(model)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    asked, listed, without_eos = json.loads(done.stdout.splitlines()[-1])
    assert read_header(model).metadata["tokenizer.ggml.eos_token_id"] in asked
    assert listed == without_eos == asked
