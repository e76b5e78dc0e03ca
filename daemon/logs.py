"""The daemon's log: one line an event, `key=value` facts, in a file that is rotated."""

from __future__ import annotations

import logging
import logging.handlers
import re
import time
from pathlib import Path

KEPT_FILES = 3
_ROOT = "qm"
_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+")
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


# Until `start_logging`, events go nowhere, instead of bare to stderr as Python would print them.
logging.getLogger(_ROOT).addHandler(logging.NullHandler())


class Log:
    """Writes events of one part of the daemon: `log.info("model_loaded", model=name, pid=7)`."""

    def __init__(self, part: str) -> None:
        self._logger = logging.getLogger(f"{_ROOT}.{part}")

    def debug(self, event: str, **facts: object) -> None:
        self._write(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: object) -> None:
        self._write(logging.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        self._write(logging.WARNING, event, facts)

    def error(self, event: str, **facts: object) -> None:
        self._write(logging.ERROR, event, facts)

    def exception(self, event: str, **facts: object) -> None:
        """As `error`, with the traceback of the exception that is being handled."""
        self._logger.error(event, exc_info=True, extra={"facts": facts})

    def _write(self, level: int, event: str, facts: dict[str, object]) -> None:
        self._logger.log(level, event, extra={"facts": facts})


class LogfmtFormatter(logging.Formatter):
    """`time=… level=… part=… event=… key=value …`; a traceback is one quoted value."""

    def format(self, record: logging.LogRecord) -> str:
        """Made once, though each handler asks for it, and so does the one that rotates."""
        line: str | None = getattr(record, "line", None)
        if line is None:
            line = record.line = self._line(record)
        return line

    def _line(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        pairs: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "part": record.name.removeprefix(f"{_ROOT}."),
            "event": record.getMessage(),
        }
        pairs |= getattr(record, "facts", {})
        if record.exc_info:
            pairs["traceback"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items())


def start_logging(path: Path, *, level: str, max_bytes: int, to_stderr: bool) -> None:
    """Send every event to `path`, rotated at `max_bytes`, and to stderr in the foreground.

    Raises OSError when the file can't be opened.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [
        logging.handlers.RotatingFileHandler(
            path, maxBytes=max_bytes, backupCount=KEPT_FILES, encoding="utf-8"
        )
    ]
    path.chmod(0o600)  # names of models and clients are nobody else's business
    if to_stderr:
        handlers.append(logging.StreamHandler())
    root = logging.getLogger()
    root.setLevel(level.upper())
    for handler in handlers:
        handler.setFormatter(LogfmtFormatter())
        root.addHandler(handler)
    logging.captureWarnings(True)


def stop_logging() -> None:
    """Flush and close what `start_logging` opened."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler.formatter, LogfmtFormatter):
            root.removeHandler(handler)
            handler.close()


def _quoted(value: object) -> str:
    """As it is when it is one plain word, else in double quotes with control characters escaped."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if _PLAIN.fullmatch(text):
        return text
    return '"' + re.sub(r'[\x00-\x1f\x7f"\\]', _escaped, text) + '"'


def _escaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0], f"\\x{ord(match[0]):02x}")
