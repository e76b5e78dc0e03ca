"""llama.cpp's own programs to compare with, built from the sources that llama-cpp-python ships.

They land in `$QM_PEERS`, by default `~/.cache/qm-peers`, and are built once.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

PACKAGE = "llama-cpp-python"
_CONVERTER_NEEDS = ("torch", "transformers", "sentencepiece", "protobuf", "numpy")
_CPUINFO = Path("/proc/cpuinfo")
# What a native build turns on by itself, by the kernel's name for it.
_INSTRUCTIONS = {
    "avx": "GGML_AVX",
    "avx2": "GGML_AVX2",
    "f16c": "GGML_F16C",
    "fma": "GGML_FMA",
    "bmi2": "GGML_BMI2",
    "avx_vnni": "GGML_AVX_VNNI",
    "avx512bw": "GGML_AVX512",
    "avx512_vbmi": "GGML_AVX512_VBMI",
    "avx512_vnni": "GGML_AVX512_VNNI",
    "avx512_bf16": "GGML_AVX512_BF16",
}


def cache() -> Path:
    """Where peers are kept, outside the checkout."""
    return Path(os.environ.get("QM_PEERS", Path.home() / ".cache" / "qm-peers"))


def llama_server() -> Path:
    return program("llama-server")


def program(name: str) -> Path:
    """One of llama.cpp's programs; builds it when it isn't there."""
    found = cache() / "build" / "bin" / name
    if not found.exists():
        _build(source(), name)
    return found


def converter() -> tuple[Path, Path]:
    """A Python that has what llama.cpp's converter needs, made when it isn't there; its script."""
    oracle = cache() / "oracle"
    if not (oracle / "bin" / "python").exists():
        print("installing torch and transformers; this takes minutes, once", file=sys.stderr)
        _make_environment(oracle, *_CONVERTER_NEEDS)
    return oracle / "bin" / "python", source() / "convert_hf_to_gguf.py"


def source() -> Path:
    """llama.cpp as it is inside the installed version's source package."""
    version = importlib.metadata.version(PACKAGE)
    directory = cache() / "src"
    tree = directory / f"{PACKAGE.replace('-', '_')}-{version}"
    if not tree.exists():
        directory.mkdir(parents=True, exist_ok=True)
        print(f"fetching the sources of {PACKAGE} {version}", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "download", "--no-deps"]
        wanted = f"{PACKAGE}=={version}"
        subprocess.run(
            [*pip, "--no-binary", PACKAGE, "-d", directory, wanted], check=True, stdout=sys.stderr
        )
        with tarfile.open(next(directory.glob(f"{tree.name}.tar.gz"))) as archive:
            archive.extractall(directory, filter="data")
    return tree / "vendor" / "llama.cpp"


def _build(source: Path, target: str) -> None:
    print(f"building {target}; this takes minutes, once", file=sys.stderr)
    build = cache() / "build"
    fixed = ("-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF")
    options = (*fixed, *_instructions())
    jobs = str(os.cpu_count() or 1)
    cmake = _cmake()
    for command in (
        [cmake, "-S", str(source), "-B", str(build), *options],
        [cmake, "--build", str(build), "--target", target, "-j", jobs],
    ):
        subprocess.run(command, check=True, stdout=sys.stderr)


def _cmake() -> str:
    """This machine's, or the one that PyPI has."""
    if found := shutil.which("cmake"):
        return found
    tools = cache() / "tools"
    if not (tools / "bin" / "cmake").exists():
        _make_environment(tools, "cmake")
    return str(tools / "bin" / "cmake")


def _make_environment(directory: Path, *packages: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "-q", *packages]
    subprocess.run(pip, check=True, stdout=sys.stderr)


def _instructions() -> tuple[str, ...]:
    """All that the CPU can, but for AMX: it crashes on virtual machines, and qm forgoes it."""
    flags = _CPUINFO.read_text().split() if _CPUINFO.exists() else []
    if "amx_tile" not in flags:
        return ()
    able = (option for flag, option in _INSTRUCTIONS.items() if flag in flags)
    return ("-DGGML_NATIVE=OFF", *(f"-D{option}=ON" for option in able))
