"""What `qm create` says of damaged repositories and mistaken Modelfiles, against a live daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.modelfiles.build.convert.test_refused import (
    UP,
    Change,
    cut,
    drop,
    edit,
    header_length,
    make,
    pickled,
    poison,
    remove,
    reshape,
    write,
)

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

Case = tuple[Change, str, str]  # what is done to the repository, more of the Modelfile, the error

LIMIT_S = 600  # builds stand back behind whatever else the machine does
GGUF = b"GGUF\x03\x00\x00\x00" + bytes(64)
TEXT = "CALIBRATION {repository}/text.txt\n"


def nothing(_: Path) -> None:
    """A sound repository."""


CASES: dict[str, Case] = {
    "no tokenizer": (remove("tokenizer.json"), "", "has no tokenizer.json"),
    "no architecture": (edit("config.json", architectures=None), "", "names no architecture"),
    "no tensor": (drop(UP), "", "layer 1 lacks 'ffn_up.weight'"),
    "another shape": (reshape(UP, [64, 128]), "", "'ffn_up.weight' of layer 1 has the shape"),
    "cut short": (cut("model.safetensors", 1000), "", "the file is cut short"),
    "a header that is too long": (header_length(1 << 40), "", "no readable GGUF or safetensors"),
    "a header that is too short": (header_length(20), "", "the header of model.safetensors"),
    "NaN": (poison(float("nan")), "", "holds a NaN"),
    "both kinds of weights": (write("x.gguf", GGUF), "", "safetensors and GGUF files; name"),
    "a GGUF with nothing in it": (
        write("x.gguf", GGUF),
        "FROM {repository}/x.gguf\n",
        "does not say its architecture",
    ),
    "a vocabulary beyond the embedding": (edit("config.json", vocab_size=999), "", "only 384 rows"),
    "a pickle": (pickled, "", "--allow-pickle"),
    "never runs": (edit("config.json", architectures=["OPTForCausalLM"]), "", "llama.cpp has no"),
    "a type that is none": (nothing, "QUANTIZE Q4_KM\n", "did you mean Q4_K_M"),
    "a tensor's type that is none": (
        nothing,
        "QUANTIZE Q4_K_M\nTENSOR_TYPE attn_v=Q6_KK\n",
        "did you mean Q6_K",
    ),
    "rows that a type can't pack": (
        nothing,
        "QUANTIZE Q8_0 output=Q4_K\n",
        "output.weight has rows of 64 numbers, Q4_K packs 256 at a time",
    ),
    "no matrix": (nothing, "QUANTIZE IQ2_XS\nIMATRIX none\n", "IQ2_XS needs an importance matrix"),
    "a matrix that is none": (
        write("m.dat", b"junk" * 99),
        "QUANTIZE IQ2_XS\nIMATRIX {repository}/m.dat\n",
        "no importance matrix",
    ),
    "a text that is too short": (
        write("text.txt", b"hello there"),
        f"QUANTIZE IQ4_XS\n{TEXT}",
        "the calibration text has 11 bytes; at least 1024 tokens are needed",
    ),
}


@pytest.fixture(scope="module")
def daemon(start_module_daemon: Callable[..., LiveDaemon]) -> LiveDaemon:
    """One that survives all of it."""
    return start_module_daemon()


@pytest.mark.parametrize("case", CASES)
def test_one_clear_error_and_nothing_else(daemon: LiveDaemon, case: str, tmp_path: Path) -> None:
    """The last line says what is wrong; no model, no half-written file, and the daemon goes on."""
    change, more, words = CASES[case]
    repository = make(tmp_path / "repository", "llama3")
    change(repository)
    first = "" if more.startswith("FROM") else f"FROM {repository}\n"
    (tmp_path / "Modelfile").write_text(first + more.format(repository=repository))
    done = daemon.qm("create", "bad", "-f", str(tmp_path / "Modelfile"), limit_s=LIMIT_S)
    assert done.returncode == 1
    *before, error = done.stderr.splitlines()
    assert error.startswith("Error: ")
    assert words in error
    assert not [line for line in before if "Error" in line or "Traceback" in line]
    assert daemon.json("GET", "/api/tags") == {"models": []}
    assert not list((daemon.home / "partial").iterdir())
    assert daemon.process.poll() is None
