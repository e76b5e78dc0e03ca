"""Why a request for a model is turned away before it is loaded."""

from __future__ import annotations

from qm.store.errors import QmError, Unavailable


class QueueFull(Unavailable):
    """As many requests wait as QM_MAX_QUEUE allows."""

    code = "queue_full"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"server busy, please try again: {limit} requests are waiting (QM_MAX_QUEUE)"
        )
        self.limit = limit


class ShuttingDown(Unavailable):
    """The daemon takes no new work."""

    code = "shutting_down"

    def __init__(self) -> None:
        super().__init__("the daemon is shutting down; try again when it is back")


class NotEnoughMemory(QmError):
    """The model does not fit beside what may not be evicted; the message has the numbers."""

    code = "out_of_memory"
