"""Texts that users write, read as what they mean: sizes, durations, addresses, budgets."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from qm.store.errors import InvalidRequest

DEFAULT_PORT = 11434
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_TERM = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"([-+]?)((?:{_TERM})+|0)", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE | re.ASCII)
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
_MOST_BYTES = 1 << 63
_SPECULATE = ("off", "auto", "fast", "always")
_LOG_LEVELS = ("debug", "info", "warning", "error")


class InvalidDuration(InvalidRequest):
    """The text is no duration such as "5m" or "1h30m"."""

    code = "invalid_duration"

    def __init__(self, text: str) -> None:
        super().__init__(f"invalid duration {text!r}; write it like 30s, 5m, 1h30m, or -1s")
        self.text = text


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen for TCP; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_duration(text: str) -> float:
    """Seconds of a Go duration ("300ms", "1h30m", "-1s"); negative ones come back negative."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise InvalidDuration(text)
    terms = re.findall(_TERM, match[2])
    seconds = math.fsum(float(count) * _UNITS_S[unit] for count, unit in terms)
    return -seconds if match[1] == "-" else seconds


def parse_keep_alive(text: str) -> float:
    """Seconds to keep an idle model loaded; a bare number counts seconds, negative is forever."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = parse_duration(text)
    if math.isnan(seconds):
        raise InvalidDuration(text)
    return math.inf if seconds < 0 else seconds


def parse_size(text: str) -> int:
    """Bytes of "512", "1.5GiB", "8G": K, M, G and T count in 1024s."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("write a size like 512MiB or 8GiB")
    power = " KMGT".index(match[2].upper() or " ")
    size = float(match[1]) * 1024**power
    if size >= _MOST_BYTES:
        raise ValueError("it is more than any machine has")
    return int(size)


def parse_budgets(text: str) -> dict[str, int]:
    """Bytes by device of "CUDA0:8GiB,CUDA1:512MiB"; under "" of "8GiB", which is for each."""
    budgets: dict[str, int] = {}
    for word in parse_words(text):
        device, _, size = word.rpartition(":")
        if device in budgets:
            raise ValueError(f"it has two sizes for {device or 'every device'}")
        budgets[device] = parse_size(size)
    return budgets


def parse_address(text: str) -> Address | None:
    """Host and port of "host", "host:port", ":port", "[::1]:port"; None for "off"."""
    text = text.strip().removeprefix("http://").rstrip("/")
    if text.lower() in ("off", "none"):
        return None
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.%]+)\]|([^:/\s]*))(?::([0-9]{1,5}))?", text)
    bare_ipv6 = re.fullmatch(r"[0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", text)
    if bare_ipv6:
        return Address(text, DEFAULT_PORT)
    if match is None or (match[3] and int(match[3]) > 65535):
        raise ValueError("write an address like 127.0.0.1:11434, [::1]:11434, or off")
    host = match[1] or match[2] or "127.0.0.1"
    return Address(host, int(match[3]) if match[3] else DEFAULT_PORT)


def parse_wait(text: str) -> float:
    seconds = parse_keep_alive(text)
    if seconds == 0:
        raise ValueError("must be longer than 0")
    return seconds


def parse_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        raise ValueError("must be a whole number, 0 or more")
    return int(text)


def parse_positive(text: str) -> int:
    number = parse_count(text)
    if number == 0:
        raise ValueError("must be a whole number, 1 or more")
    return number


def parse_words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[,\s]+", text) if word)


def parse_kv_types(text: str) -> tuple[str, ...]:
    words = parse_words(text)
    unknown = [word for word in words if word not in KV_TYPES]
    if unknown or not words:
        raise ValueError(f"must be of {', '.join(KV_TYPES)}")
    return words


def parse_endpoints(text: str) -> tuple[str, ...]:
    for word in parse_words(text):
        host, _, port = word.rpartition(":")
        if ":" in host:
            raise ValueError(f"{word!r}: llama.cpp's RPC knows IPv4 addresses and names only")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", host) or not re.fullmatch(r"[0-9]{1,5}", port):
            raise ValueError(f"{word!r} is no host:port")
        if not 0 < int(port) < 1 << 16:
            raise ValueError(f"{word!r}: there is no port {port}")
    return tuple(dict.fromkeys(parse_words(text)))


def parse_speculate(text: str) -> str:
    """One of the words; 0 and 1 switch it off and on."""
    word = {"0": "off", "false": "off", "1": "auto", "true": "auto"}.get(text.lower(), text.lower())
    if word not in _SPECULATE:
        raise ValueError(f"must be one of {', '.join(_SPECULATE)}")
    return word


def parse_level(text: str) -> str:
    if text.lower() not in _LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(_LOG_LEVELS)}")
    return text.lower()


def parse_flag(text: str) -> bool:
    return text.strip().lower() not in ("", "0", "false", "no", "off")


def parse_paths(text: str) -> tuple[Path, ...]:
    """Separated by commas, or as in PATH where each is a whole path."""
    parts = (part.strip() for part in re.split(r",|:(?=[/~])", text))
    return tuple(Path(part).expanduser().absolute() for part in parts if part)


def parse_path(text: str) -> Path | None:
    return Path(text).expanduser().absolute() if text else None
