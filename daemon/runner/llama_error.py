"""What every module that calls llama.cpp raises."""

from __future__ import annotations

from . import wire


class LlamaError(Exception):
    """llama.cpp refused; `code` is one of the words that `wire.Failed` lists."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def failed(self, request_id: int) -> wire.Failed:
        """What the daemon is told."""
        return wire.Failed(request_id, self.code, str(self))
