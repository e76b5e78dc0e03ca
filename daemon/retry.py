"""After a load that failed: whether a smaller one is worth trying, and how small. Pure."""

from __future__ import annotations

from dataclasses import replace

from qm.store.errors import QmError

from .placing import RUNNER_BYTES, Fit, mib
from .questions import Question
from .runner.failures import LoadFailed, RunnerCrashed

MAX_RETRIES = 3
_STEP = 0.15  # of a device's use that is given up with each retry
_LEAST_STEP_BYTES = 64 << 20


def worth_retrying(error: QmError, fit: Fit) -> bool:
    """Memory was short, or a device is lost; a runner that dies loading onto one says so too."""
    if isinstance(error, LoadFailed):
        return error.out_of_memory or error.reason == "device_lost"
    if not isinstance(error, RunnerCrashed):
        return False
    return bool(fit.placement.devices) or error.out_of_memory


def smaller(question: Question, failed: Fit) -> Question:
    """The same question, with less room on what the failed placement used."""
    if not failed.placement.devices:
        host = int((failed.needed_bytes - RUNNER_BYTES) * (1 - _STEP)) + RUNNER_BYTES
        available = host + question.staying.host_bytes
        return replace(question, machine=replace(question.machine, available_bytes=available))
    spared = dict(question.spared)
    for use in failed.uses[1:]:
        unused = use.room_bytes - use.total_bytes
        step = max(_LEAST_STEP_BYTES, int(use.total_bytes * _STEP))
        spared[use.device] = spared.get(use.device, 0) + unused + step
    return replace(question, spared=spared)


def told(failed: Fit, error: QmError, then: Fit) -> str:
    """What was tried, why that failed, and what came instead."""
    why = error.message.splitlines()[0]
    return f"{described(failed)} failed ({why}); {described(then)} was tried instead"


def described(fit: Fit) -> str:
    """A placement in a few words."""
    placement = fit.placement
    layers = f"{fit.n_gpu_layers} layers on GPUs" if placement.devices else "all on the CPU"
    return f"{mib(fit.predicted_bytes)} with {layers} and context {placement.n_ctx}"
