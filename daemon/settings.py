"""Everything a user can set: one table, read from the environment and one TOML file.

The environment wins over the file, the file over the default. `SETTINGS` is the whole list, and
`docs/settings.md` is tested against it. Nothing else in qm reads the environment.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
from qm.store.errors import InvalidRequest

DEFAULT_PORT = 11434
# The kernel's limit on a socket's path is 108 bytes on Linux and 104 on macOS, with the final zero.
_MAX_SOCKET_PATH_BYTES = 100

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_TERM = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"([-+]?)((?:{_TERM})+|0)", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE | re.ASCII)
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
_LOG_LEVELS = ("debug", "info", "warning", "error")


class InvalidDuration(InvalidRequest):
    """The text is no duration such as "5m" or "1h30m"."""

    code = "invalid_duration"

    def __init__(self, text: str) -> None:
        super().__init__(f"invalid duration {text!r}; write it like 30s, 5m, 1h30m, or -1s")
        self.text = text


class InvalidSetting(InvalidRequest):
    """A setting's value can't be used, or a key of the configuration file is unknown."""

    code = "invalid_setting"


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
    return int(float(match[1]) * 1024**power)


def parse_budgets(text: str) -> dict[str, int]:
    """Bytes by device of "CUDA0:8GiB,CUDA1:512MiB"; under "" of "8GiB", which is for each."""
    budgets: dict[str, int] = {}
    for word in _words(text):
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


def _wait(text: str) -> float:
    seconds = parse_keep_alive(text)
    if seconds == 0:
        raise ValueError("must be longer than 0")
    return seconds


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        raise ValueError("must be a whole number, 0 or more")
    return int(text)


def _positive(text: str) -> int:
    number = _count(text)
    if number == 0:
        raise ValueError("must be a whole number, 1 or more")
    return number


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[,\s]+", text) if word)


def _kv_types(text: str) -> tuple[str, ...]:
    words = _words(text)
    unknown = [word for word in words if word not in KV_TYPES]
    if unknown or not words:
        raise ValueError(f"must be of {', '.join(KV_TYPES)}")
    return words


def _endpoints(text: str) -> tuple[str, ...]:
    for word in _words(text):
        if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", word):
            raise ValueError(f"{word!r} is no host:port")
    return tuple(dict.fromkeys(_words(text)))


def _level(text: str) -> str:
    if text.lower() not in _LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(_LOG_LEVELS)}")
    return text.lower()


def _flag(text: str) -> bool:
    return text.strip().lower() not in ("", "0", "false", "no", "off")


def _paths(text: str) -> tuple[Path, ...]:
    parts = (part.strip() for part in text.split(","))
    return tuple(Path(part).expanduser().absolute() for part in parts if part)


def _path(text: str) -> Path | None:
    return Path(text).expanduser().absolute() if text else None


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: the variable, the field it fills, and what a user should know."""

    name: str  # environment variable; the file's key is the same without "QM_", in lower case
    field: str
    kind: str
    parse: Callable[[str], object]
    default: str
    doc: str

    @property
    def key(self) -> str:
        return self.name.removeprefix("QM_").lower()


SETTINGS = (
    Setting("QM_HOME", "home", "path", _path, "",
            "Where models live. Default: the user's data directory."),
    Setting("QM_STORES", "stores", "list", _paths, "",
            "Other stores, ours or Ollama's, whose models are used and never changed."),
    Setting("QM_SOCKET", "socket", "path", _path, "",
            "The daemon's unix socket. Default: in the user's runtime directory; for another "
            "QM_HOME, in there."),
    Setting("QM_HOST", "address", "address", parse_address, "127.0.0.1:11434",
            "Where to listen for TCP; off serves the socket alone. Anything but loopback needs a "
            "key."),
    Setting("QM_API_KEY", "api_key", "text", str.strip, "",
            "Key that TCP clients must send as a bearer token or x-api-key."),
    Setting("QM_API_KEYS_FILE", "api_keys_file", "path", _path, "",
            "File with one accepted key a line, besides QM_API_KEY."),
    Setting("QM_TLS_CERT", "tls_certificate", "path", _path, "",
            "Certificate with its chain (PEM): TCP is served by TLS alone."),
    Setting("QM_TLS_KEY", "tls_key", "path", _path, "",
            "Private key of QM_TLS_CERT, where it is not in the same file."),
    Setting("QM_READ_TIMEOUT", "read_timeout_s", "duration", _wait, "60s",
            "A client that takes longer to send a request is given up."),
    Setting("QM_ORIGINS", "origins", "list", _words, "",
            "Web origins that may call, besides loopback ones; * allows all, a last * any rest."),
    Setting("QM_ALLOWED_HOSTS", "allowed_hosts", "list", _words, "",
            "Host names by which TCP clients may address the daemon, besides loopback ones and the "
            "bound address."),
    Setting("QM_MAX_BODY_BYTES", "max_body_bytes", "size", parse_size, "64MiB",
            "Largest request body, blob uploads aside."),
    Setting("QM_KEEP_ALIVE", "keep_alive_s", "duration", parse_keep_alive, "5m",
            "How long an idle model stays loaded; -1 is forever, 0 unloads at once."),
    Setting("QM_MAX_LOADED_MODELS", "max_loaded_models", "count", _count, "0",
            "Most models loaded at once; 0 is as many as memory holds."),
    Setting("QM_MAX_QUEUE", "max_queue", "count", _positive, "512",
            "Most requests that may wait; past it the answer is 503."),
    Setting("QM_NUM_PARALLEL", "num_parallel", "count", _positive, "4",
            "Requests that one loaded model works on at once, sharing its context."),
    Setting("QM_CONTEXT_LENGTH", "context_length", "count", _count, "4096",
            "Context in tokens where neither request nor Modelfile says; never more than the model "
            "was trained for; 0 is as much as fits."),
    Setting("QM_MEMORY_LIMIT", "memory_limit_bytes", "size", parse_size, "0",
            "Most memory that loaded models may take together; 0 is what the machine has free."),
    Setting("QM_KV_TYPE", "kv_types", "list", _kv_types, "f16",
            "Type of KV caches; of several, the later ones are for when memory is short "
            "(f16,q8_0)."),
    Setting("QM_GPU_RESERVE", "gpu_reserve_bytes", "size", parse_size, "512MiB",
            "Memory of each GPU that is left to others."),
    Setting("QM_GPU_MEMORY", "gpu_memory", "budgets", parse_budgets, "",
            "Most memory that a model may take of a GPU: 4GiB for each, or "
            "CUDA0:8GiB,CUDA1:0 by name; 0 leaves a device alone."),
    Setting("QM_RPC", "rpc", "list", _endpoints, "",
            "Workers on other machines (host:port) whose memory is used too. What goes there and "
            "back is neither encrypted nor authenticated."),
    Setting("QM_KV_CACHE", "kv_cache_bytes", "size", parse_size, "4GiB",
            "Most disk for conversations of unloaded models, which go on without being evaluated "
            "again; 0 keeps none."),
    Setting("QM_LOAD_TIMEOUT", "load_timeout_s", "duration", _wait, "5m",
            "A load that makes no progress for this long is given up."),
    Setting("QM_DRAIN_TIMEOUT", "drain_timeout_s", "duration", parse_keep_alive, "10s",
            "How long running answers may go on when the daemon is told to stop."),
    Setting("QM_MAX_JOBS", "max_jobs", "count", _positive, "2",
            "Builds, imports and checks that run at once; more wait."),
    Setting("QM_REGISTRIES", "registries", "list", _words, "",
            "Registries on private addresses that may be asked: host, host:port, or "
            "http://host:port for one without TLS. Public ones need no entry."),
    Setting("QM_REGISTRY_AUTH", "registry_auth", "path", _path, "~/.docker/config.json",
            "File with the logins for registries, as docker login writes it."),
    Setting("QM_LOG_LEVEL", "log_level", "word", _level, "info",
            "Least log level that is written: debug, info, warning or error."),
    Setting("QM_LOG_FILE", "log_file", "path", _path, "",
            "The daemon's log. Default: logs/daemon.log under QM_HOME."),
    Setting("QM_LOG_MAX_BYTES", "log_max_bytes", "size", parse_size, "8MiB",
            "Size at which the log is rotated; three old ones are kept."),
    Setting("QM_NO_HISTORY", "no_history", "flag", _flag, "",
            "Set: qm run keeps no history of what was typed."),
    Setting("QM_NO_BUILD_CACHE", "no_build_cache", "flag", _flag, "",
            "Set: qm create does every step of a build anew."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of `SETTINGS`, parsed and complete."""

    home: Path
    stores: tuple[Path, ...]
    socket: Path
    address: Address | None
    api_key: str = field(repr=False)
    api_keys_file: Path | None
    tls_certificate: Path | None
    tls_key: Path | None
    read_timeout_s: float
    origins: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    max_body_bytes: int
    keep_alive_s: float
    max_loaded_models: int
    max_queue: int
    num_parallel: int
    context_length: int
    memory_limit_bytes: int
    kv_types: tuple[str, ...]
    gpu_reserve_bytes: int
    gpu_memory: Mapping[str, int]
    rpc: tuple[str, ...]
    kv_cache_bytes: int
    load_timeout_s: float
    drain_timeout_s: float
    max_jobs: int
    registries: tuple[str, ...]
    registry_auth: Path | None
    log_level: str
    log_file: Path
    log_max_bytes: int
    no_history: bool
    no_build_cache: bool

    def api_keys(self) -> tuple[str, ...]:
        """Every accepted key, read from the file anew; empty means that none is asked for."""
        keys = [self.api_key] if self.api_key else []
        if self.api_keys_file is not None:
            keys += _read_text("QM_API_KEYS_FILE", self.api_keys_file).split()
        return tuple(keys)


def key_file(settings: Settings) -> Path:
    """Where the keys of `qm key` are kept, as hashes."""
    return settings.home / "keys.json"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force. Raises InvalidSetting, which names the variable or key."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = _parsed(_texts(environ))  # Any: each field's type is its parser's
    values["home"] = values["home"] or platformdirs.user_data_path("qm")
    values["socket"] = values["socket"] or _default_socket(values["home"], environ)
    values["log_file"] = values["log_file"] or values["home"] / "logs" / "daemon.log"
    return Settings(**values)


def model_folders(environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Where other programs keep their models on this machine, as far as the folders exist."""
    environ = os.environ if environ is None else environ
    cache = Path(environ.get("XDG_CACHE_HOME") or "~/.cache")
    hub_home = Path(environ.get("HF_HOME") or cache / "huggingface")
    candidates = (
        Path(environ.get("OLLAMA_MODELS") or "~/.ollama/models"),
        Path("/usr/share/ollama/.ollama/models"),
        Path(environ.get("HF_HUB_CACHE") or hub_home / "hub"),
        Path("~/.lmstudio/models"),
        cache / "lm-studio" / "models",
    )
    expanded = (path.expanduser().absolute() for path in candidates)
    return tuple(path for path in dict.fromkeys(expanded) if path.is_dir())


def config_path(environ: Mapping[str, str]) -> Path:
    """The TOML file that is read, whether or not it exists."""
    given = environ.get("QM_CONFIG")
    return Path(given).expanduser() if given else platformdirs.user_config_path("qm") / "qm.toml"


def _texts(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """For each setting, its text and where that came from."""
    path = config_path(environ)
    document = _read_toml(path, required="QM_CONFIG" in environ)
    unknown = set(document) - {setting.key for setting in SETTINGS}
    if unknown:
        raise InvalidSetting(f"{path}: unknown setting {min(unknown)!r}; see docs/settings.md")
    texts = {setting.name: (setting.default, "default") for setting in SETTINGS}
    for setting in SETTINGS:
        if setting.key in document:
            texts[setting.name] = (_as_text(document[setting.key]), f"{path}: {setting.key}")
        if environ.get(setting.name):
            texts[setting.name] = (environ[setting.name], setting.name)
    return texts


def _parsed(texts: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text, source = texts[setting.name]
        try:
            values[setting.field] = setting.parse(text)
        except (ValueError, InvalidDuration) as error:
            raise InvalidSetting(f"{source}: {text!r} can't be used: {error}") from error
    return values


def _read_toml(path: Path, *, required: bool) -> dict[str, object]:
    if not required and not path.exists():
        return {}
    import tomllib  # noqa: PLC0415  most users have no file, and every command pays for imports

    try:
        return tomllib.loads(_read_text("QM_CONFIG", path))
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"{path}: {error}") from error


def _read_text(name: str, path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{name}: can't read {path}: {error}") from error


def _as_text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(value)


def _default_socket(home: Path, environ: Mapping[str, str]) -> Path:
    """In the runtime directory for the usual store; beside the models for any other one.

    So that a command and its daemon, given the same QM_HOME, always find each other.
    """
    runtime = _runtime_directory(environ)
    if runtime and home == platformdirs.user_data_path("qm"):
        return runtime / "qm" / "qm.sock"
    beside = home / "qm.sock"
    if len(os.fsencode(beside)) <= _MAX_SOCKET_PATH_BYTES:
        return beside
    import hashlib  # noqa: PLC0415  rarely needed, and every command would pay for OpenSSL

    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return (runtime or Path("/tmp")) / f"qm-{os.getuid()}" / f"{digest}.sock"  # noqa: S108  owner checked when bound


def _runtime_directory(environ: Mapping[str, str]) -> Path | None:
    given = environ.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/"):
        return Path(given)
    usual = Path(f"/run/user/{os.getuid()}")
    return usual if usual.is_dir() else None
