"""Everything a user can set: one table, read from the environment and one TOML file.

The environment wins over the file, the file over the default. `SETTINGS` is the whole list, and
`docs/settings.md` is tested against it. Nothing else in qm reads the environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qm.store.errors import InvalidRequest

from .setting_values import (
    Address,
    InvalidDuration,
    parse_address,
    parse_budgets,
    parse_count,
    parse_endpoints,
    parse_flag,
    parse_keep_alive,
    parse_kv_types,
    parse_level,
    parse_path,
    parse_paths,
    parse_positive,
    parse_size,
    parse_speculate,
    parse_wait,
    parse_words,
)

# The kernel's limit on a socket's path is 108 bytes on Linux and 104 on macOS, with the final zero.
_MAX_SOCKET_PATH_BYTES = 100


class InvalidSetting(InvalidRequest):
    """A setting's value can't be used, or a key of the configuration file is unknown."""

    code = "invalid_setting"


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
    Setting("QM_HOME", "home", "path", parse_path, "",
            "Where models live. Default: the user's data directory."),
    Setting("QM_STORES", "stores", "list", parse_paths, "",
            "Other stores, ours or Ollama's, whose models are used and never changed."),
    Setting("QM_SOCKET", "socket", "path", parse_path, "",
            "The daemon's unix socket. Default: in the user's runtime directory; for another "
            "QM_HOME, in there."),
    Setting("QM_HOST", "address", "address", parse_address, "127.0.0.1:11434",
            "Where to listen for TCP; off serves the socket alone. Anything but loopback needs a "
            "key."),
    Setting("QM_API_KEY", "api_key", "text", str.strip, "",
            "Key that TCP clients must send as a bearer token or x-api-key."),
    Setting("QM_API_KEYS_FILE", "api_keys_file", "path", parse_path, "",
            "File with one accepted key a line, besides QM_API_KEY."),
    Setting("QM_TLS_CERT", "tls_certificate", "path", parse_path, "",
            "Certificate with its chain (PEM): TCP is served by TLS alone."),
    Setting("QM_TLS_KEY", "tls_key", "path", parse_path, "",
            "Private key of QM_TLS_CERT, where it is not in the same file."),
    Setting("QM_READ_TIMEOUT", "read_timeout_s", "duration", parse_wait, "60s",
            "A client that takes longer to send a request is given up."),
    Setting("QM_ORIGINS", "origins", "list", parse_words, "",
            "Web origins that may call, besides loopback ones; * allows all, a last * any rest."),
    Setting("QM_ALLOWED_HOSTS", "allowed_hosts", "list", parse_words, "",
            "Host names by which TCP clients may address the daemon, besides loopback ones and the "
            "bound address."),
    Setting("QM_MAX_BODY_BYTES", "max_body_bytes", "size", parse_size, "64MiB",
            "Largest request body, blob uploads aside."),
    Setting("QM_KEEP_ALIVE", "keep_alive_s", "duration", parse_keep_alive, "5m",
            "How long an idle model stays loaded; -1 is forever, 0 unloads at once."),
    Setting("QM_MAX_LOADED_MODELS", "max_loaded_models", "count", parse_count, "0",
            "Most models loaded at once; 0 is as many as memory holds."),
    Setting("QM_MAX_QUEUE", "max_queue", "count", parse_positive, "512",
            "Most requests that may wait; past it the answer is 503."),
    Setting("QM_NUM_PARALLEL", "num_parallel", "count", parse_positive, "4",
            "Requests that one loaded model works on at once, sharing its context."),
    Setting("QM_CONTEXT_LENGTH", "context_length", "count", parse_count, "0",
            "Context in tokens where neither request nor Modelfile says; never more than the model "
            "was trained for. 0 is the largest that fits, its cache within an eighth of the host's "
            "memory and a quarter of the GPUs'."),
    Setting("QM_MEMORY_LIMIT", "memory_limit_bytes", "size", parse_size, "0",
            "Most memory that loaded models may take together; 0 is what the machine has free."),
    Setting("QM_MODEL_MEMORY", "model_memory_bytes", "size", parse_size, "0",
            "Most of the host's memory that one model may take; 0 is no limit of its own."),
    Setting("QM_KV_TYPE", "kv_types", "list", parse_kv_types, "f16",
            "Type of KV caches; of several, the later ones are for when memory is short "
            "(f16,q8_0)."),
    Setting("QM_GPU_RESERVE", "gpu_reserve_bytes", "size", parse_size, "512MiB",
            "Memory of each GPU that is left to others."),
    Setting("QM_GPU_MEMORY", "gpu_memory", "budgets", parse_budgets, "",
            "Most memory that a model may take of a GPU: 4GiB for each, or "
            "CUDA0:8GiB,CUDA1:0 by name; 0 leaves a device alone."),
    Setting("QM_RPC", "rpc", "list", parse_endpoints, "",
            "Workers on other machines (host:port) whose memory is used too. What goes there and "
            "back is neither encrypted nor authenticated."),
    Setting("QM_KV_CACHE", "kv_cache_bytes", "size", parse_size, "4GiB",
            "Most disk for conversations of unloaded models, which go on without being evaluated "
            "again; 0 keeps none."),
    Setting("QM_SPECULATION", "speculate", "word", parse_speculate, "auto",
            "Guess tokens ahead, from the text itself or a DRAFT model, and check several at once: "
            "auto where it measures faster and leaves repeatable answers as they are to the bit; "
            "fast though near-tied tokens may fall otherwise; always; off."),
    Setting("QM_LOAD_TIMEOUT", "load_timeout_s", "duration", parse_wait, "5m",
            "A load that makes no progress for this long is given up."),
    Setting("QM_DRAIN_TIMEOUT", "drain_timeout_s", "duration", parse_keep_alive, "10s",
            "How long running answers may go on when the daemon is told to stop."),
    Setting("QM_MAX_JOBS", "max_jobs", "count", parse_positive, "2",
            "Builds, imports and checks that run at once; more wait."),
    Setting("QM_REGISTRIES", "registries", "list", parse_words, "",
            "Registries on private addresses that may be asked: host, host:port, or "
            "http://host:port for one without TLS. Public ones need no entry."),
    Setting("QM_REGISTRY_AUTH", "registry_auth", "path", parse_path, "~/.docker/config.json",
            "File with the logins for registries, as docker login writes it."),
    Setting("QM_LOG_LEVEL", "log_level", "word", parse_level, "info",
            "Least log level that is written: debug, info, warning or error."),
    Setting("QM_LOG_FILE", "log_file", "path", parse_path, "",
            "The daemon's log. Default: logs/daemon.log under QM_HOME."),
    Setting("QM_LOG_MAX_BYTES", "log_max_bytes", "size", parse_size, "8MiB",
            "Size at which the log is rotated; three old ones are kept."),
    Setting("QM_CAPTURE", "capture", "count", parse_count, "0",
            "Requests that are kept in files for debugging, under captures in QM_HOME: so many, "
            "the latest; keys and images are left out. 0 keeps none."),
    Setting("QM_NO_HISTORY", "no_history", "flag", parse_flag, "",
            "Set: qm run keeps no history of what was typed."),
    Setting("QM_NO_BUILD_CACHE", "no_build_cache", "flag", parse_flag, "",
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
    model_memory_bytes: int
    kv_types: tuple[str, ...]
    gpu_reserve_bytes: int
    gpu_memory: Mapping[str, int]
    rpc: tuple[str, ...]
    kv_cache_bytes: int
    speculate: str
    load_timeout_s: float
    drain_timeout_s: float
    max_jobs: int
    registries: tuple[str, ...]
    registry_auth: Path | None
    log_level: str
    log_file: Path
    log_max_bytes: int
    capture: int
    no_history: bool
    no_build_cache: bool

    def api_keys(self) -> tuple[str, ...]:
        """Every accepted key, read from the file anew; empty means that none is asked for."""
        keys = [self.api_key] if self.api_key else []
        if self.api_keys_file is not None:
            keys += _read_text("QM_API_KEYS_FILE", self.api_keys_file).split()
        return tuple(keys)


def capture_directory(settings: Settings) -> Path:
    """Where the requests of QM_CAPTURE are kept."""
    return settings.home / "captures"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force. Raises InvalidSetting, which names the variable or key."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = _parsed(_texts(environ))  # Any: each field's type is its parser's
    values["home"] = values["home"] or data_directory(environ)
    values["socket"] = values["socket"] or _default_socket(values["home"], environ)
    values["log_file"] = values["log_file"] or values["home"] / "logs" / "daemon.log"
    return Settings(**values)


def data_directory(environ: Mapping[str, str]) -> Path:
    """Where models live if nothing is said."""
    if sys.platform == "linux":
        return _xdg_directory(environ.get("XDG_DATA_HOME", ""), "~/.local/share")
    import platformdirs  # noqa: PLC0415  takes longer to import than all else here

    return platformdirs.user_data_path("qm")


def _config_directory(environ: Mapping[str, str]) -> Path:
    if sys.platform == "linux":
        return _xdg_directory(environ.get("XDG_CONFIG_HOME", ""), "~/.config")
    import platformdirs  # noqa: PLC0415  as above

    return platformdirs.user_config_path("qm")


def _xdg_directory(given: str, usual: str) -> Path:
    """As platformdirs has it."""
    return Path(given if given.startswith("/") else usual).expanduser() / "qm"


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
    return Path(given).expanduser() if given else _config_directory(environ) / "qm.toml"


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
    if runtime and home == data_directory(environ):
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
