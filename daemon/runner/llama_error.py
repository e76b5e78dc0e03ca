"""What every module that calls llama.cpp raises."""

from __future__ import annotations


class LlamaError(Exception):
    """llama.cpp refused; `code` is one of the words that `wire.Failed` lists."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
