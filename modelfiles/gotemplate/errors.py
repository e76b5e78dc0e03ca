"""What can be wrong with a template."""

from __future__ import annotations

from qm.store.errors import InvalidRequest


class TemplateSyntaxError(InvalidRequest):
    """A template whose text can't be read, worded as Go's own parser does."""

    code = "invalid_template"

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(f"template error: template: :{line}: {reason}")
        self.reason = reason
        self.line = line


class ExecutionError(InvalidRequest):
    """A template that can't be executed with its data."""

    code = "template_failed"
