"""What a child process that touches untrusted files may know of our environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..network import of_network

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
    *("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "VK_", "SYCL_", "ONEAPI_"),
)

_DEFAULTS: Final = {
    # ggml would start a debugger to print a backtrace when it aborts.
    "GGML_NO_BACKTRACE": "1",
    # Threads that wait for each other spin for long by default: beside any other load on the same
    # cores that costs nine tenths of the speed. A few microseconds are enough, then they sleep.
    "GOMP_SPINCOUNT": "1000",
    # numpy's are there from its import on, and spun for tens of milliseconds before they slept.
    "OPENBLAS_THREAD_TIMEOUT": "4",
}
_RUNNER_DEFAULTS: Final = {
    # A runner changes over between a long limit, of about 20 milliseconds, and a short one, which
    # is 1000 by this policy (`spinning`). The long one outlasts what lies between two steps: a
    # virtual processor that falls asleep there is lent to others, and comes back late.
    "GOMP_SPINCOUNT": "300000",
    "OMP_WAIT_POLICY": "active",
}


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of `environment` that a child needs; tokens and keys stay behind."""
    kept = {
        name: value
        for name, value in environment.items()
        if name in _NAMES or name.startswith(_PREFIXES)
    }
    return _DEFAULTS | kept


def runner_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """As `child_environment`, for a process that notices who else computes."""
    return child_environment(_RUNNER_DEFAULTS | dict(environment))


def network_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """As `child_environment`, with what downloading takes. For jobs that run no native code.

    requests' names for certificates are told again by the names that everything here knows.
    """
    added = of_network(environment)
    bundle = added.get("REQUESTS_CA_BUNDLE") or added.get("CURL_CA_BUNDLE")
    if bundle and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & added.keys():
        added["SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE"] = bundle
    return child_environment(environment) | added
