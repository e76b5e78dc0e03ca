"""What can go wrong with a runner, as the daemon's callers see it.

QmError
├── RunnerFailed          the process misbehaved; it is of no use any more
│   └── RunnerCrashed     it died; carries the tail of its log
├── LoadFailed            this model can't be loaded (code and facts say why)
└── GenerateFailed        this request failed; the runner goes on
    ├── RequestRefused    400: prompt_too_long, bad_option, bad_schema, bad_grammar
    └── NotSupported      501: this model or build can't do that
"""

from __future__ import annotations

from qm.store.errors import QmError

from . import wire

_NO_MEMORY = (
    "out of memory",
    "failed to allocate",
    "unable to allocate",
    "insufficient memory",
    "cannot allocate memory",
    "bad_alloc",
)


_LOST_WORKER = "Remote RPC server crashed"  # llama.cpp's last words then


class RunnerFailed(QmError):
    """A runner process did not do what it should."""

    code = "runner_failed"


def says_no_memory(text: str) -> bool:
    """Whether llama.cpp's words say that memory ran out; it tells that nowhere else."""
    return any(words in text.lower() for words in _NO_MEMORY)


class RunnerCrashed(RunnerFailed):
    """The runner died. `log_tail` is the end of what it printed."""

    code = "runner_crashed"

    def __init__(self, message: str, *, exit_status: int | None = None, log_tail: str = "") -> None:
        if _LOST_WORKER in log_tail:
            message += ": a worker (QM_RPC) that had layers of the model died or broke off"
        super().__init__(f"{message}\n{log_tail}" if log_tail else message)
        self.exit_status = exit_status
        self.log_tail = log_tail

    @property
    def out_of_memory(self) -> bool:
        """Whether its last words were about memory: ggml aborts where it gets none."""
        return says_no_memory(self.message)


class AnswerNotRead(QmError):
    """An answer was cut because nobody took it; the runner goes on."""

    code = "answer_not_read"


class LoadFailed(QmError):
    """The model could not be loaded; `reason` is a word of `wire.Failed`."""

    code = "load_failed"

    def __init__(self, failed: wire.Failed) -> None:
        super().__init__(failed.message)
        self.reason = failed.code
        self.facts = failed.facts

    @property
    def out_of_memory(self) -> bool:
        return self.reason == "out_of_memory"


class GenerateFailed(QmError):
    """One request failed; `reason` is a word of `wire.Failed`, `facts` the numbers behind it."""

    code = "generate_failed"

    def __init__(self, failed: wire.Failed) -> None:
        super().__init__(failed.message)
        self.reason = failed.code
        self.facts = failed.facts


class RequestRefused(GenerateFailed):
    """The request can't be carried out as it is."""

    status = 400
    code = "invalid_request"


class NotSupported(GenerateFailed):
    """The loaded model, or this version of qm, can't do that."""

    status = 501
    code = "unsupported"


_REFUSALS = frozenset({"prompt_too_long", "bad_grammar", "bad_schema", "bad_option"})


def generate_failure(failed: wire.Failed) -> GenerateFailed:
    """The exception that stands for `failed`."""
    if failed.code in _REFUSALS:
        return RequestRefused(failed)
    if failed.code == "unsupported":
        return NotSupported(failed)
    return GenerateFailed(failed)
