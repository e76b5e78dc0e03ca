"""A real model: what qm writes is what llama.cpp's own converter writes, byte for byte."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from qm.modelfiles.build.convert import ConvertReport, OutType, convert

# SHA-256 of what convert_hf_to_gguf.py of llama-cpp-python 0.3.36 makes of the same repository
UPSTREAM = {
    "f16": "d264a9b3e4aa4076abaff75e3e00fe4f89bf100568110c97599e047f4fe03cd6",
    "auto": "497541b37c4f11bee873161fc6afdd3d5d51be0de68cdc387478e3165a728338",
}


class Hashing:
    """Takes the bytes as a blob does, and keeps only their digest."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: memoryview) -> None:
        self.hash.update(data)
        self.size += len(data)


def converted(source: Path, out_type: OutType) -> tuple[str, ConvertReport]:
    out = Hashing()
    report = convert(source, out, out_type=out_type, name="smollm2")
    assert report.written_bytes == out.size
    return out.hash.hexdigest(), report


@pytest.mark.parametrize("out_type", ["f16", "auto"])
def test_equals_the_upstream_converter(smollm2_repository: Path, out_type: OutType) -> None:
    """Every byte: header, metadata, vocabulary and weights."""
    digest, report = converted(smollm2_repository, out_type)
    assert report.architecture == "llama"
    assert report.file_type == ("BF16" if out_type == "auto" else "F16")
    assert report.tensors == 272
    assert digest == UPSTREAM[out_type]


def test_the_place_of_the_repository_does_not_matter(
    smollm2_repository: Path, tmp_path: Path
) -> None:
    """The same files elsewhere give the same bytes."""
    elsewhere = tmp_path / "another name"
    shutil.copytree(smollm2_repository, elsewhere, copy_function=shutil.copy)
    assert converted(elsewhere, "auto")[0] == UPSTREAM["auto"]


PEAK = """
import resource, sys
from pathlib import Path
from qm.modelfiles.build.convert import convert
with open("/dev/null", "wb") as out:
    convert(Path(sys.argv[1]), out, out_type="f16")
if sys.platform == "linux":  # there getrusage counts what the parent had, too
    status = Path("/proc/self/status").read_text()
    print(1024 * int(status.split("VmHWM:")[1].split()[0]))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_stays_below_the_weights(smollm2_repository: Path) -> None:
    """269 MB of weights go through far less memory, numpy and the tokenizer included."""
    command = [sys.executable, "-c", PEAK, str(smollm2_repository)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    weights_bytes = (smollm2_repository / "model.safetensors").stat().st_size
    assert int(result.stdout) < 0.85 * weights_bytes
