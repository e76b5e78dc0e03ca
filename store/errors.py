"""The root of every error that a user may see.

Errors are defined beside the code that raises them; this module holds only what they share.

    QmError
    ├── InvalidRequest      400  the input is wrong, and says how to mend it
    ├── NotFound            404  what was named is not here
    ├── Conflict            409  somebody else holds it, or it changed meanwhile
    ├── Unavailable         503  not now: full, busy or shutting down
    └── ...                 500  everything that is our fault or the machine's
"""

from __future__ import annotations

from typing import ClassVar


class QmError(Exception):
    """What failed, on what, and what to do about it, in one sentence for the user.

    `status` is the HTTP status that the error maps to; `code` is a stable machine-readable word.
    `field` is the path of what in a request is at fault, as `messages[0].content`, where known.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    field: str = ""

    @property
    def message(self) -> str:
        return str(self)

    @property
    def hint(self) -> str:
        """What to try, for a person at a terminal; empty where the message says it all."""
        return ""


class InvalidRequest(QmError):
    """The caller's input can't be used as it is."""

    status = 400
    code = "invalid_request"


class NotFound(QmError):
    """What the caller named does not exist here."""

    status = 404
    code = "not_found"


class Conflict(QmError):
    """The state of the store or daemon does not allow it now."""

    status = 409
    code = "conflict"


class Unavailable(QmError):
    """The daemon can't take this on at the moment."""

    status = 503
    code = "unavailable"
