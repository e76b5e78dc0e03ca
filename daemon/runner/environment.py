"""What a child process that touches untrusted files may know of our environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_NAMES: Final = frozenset(
    {
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "TZ",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "VIRTUAL_ENV",
        "COVERAGE_PROCESS_START",
    }
)
# Device visibility and driver settings, the loader's, and the interpreter's own.
_PREFIXES: Final = (
    *("LC_", "PYTHON", "CUDA_", "NVIDIA_", "HIP_", "HSA_", "ROCR_", "ROCM_", "GGML_", "LLAMA_"),
    *("OMP_", "GOMP_", "KMP_", "VK_", "SYCL_", "ONEAPI_"),
)


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of `environment` that a child needs; tokens and keys stay behind."""
    kept = {
        name: value
        for name, value in environment.items()
        if name in _NAMES or name.startswith(_PREFIXES)
    }
    # ggml would start a debugger to print a backtrace when it aborts.
    return kept | {"GGML_NO_BACKTRACE": "1"}
