"""How much of an answer about models is read at all, and for how long."""

from __future__ import annotations

from ..errors import QmError

MOST_ANSWER_BYTES = 32 << 20  # a repository of 100,000 files
MOST_ANSWER_S = 120.0


class AnswerRefused(QmError):
    """A server's answer is too long, too slow or packed in a way that was not asked for."""

    status = 502
    code = "answer_refused"
