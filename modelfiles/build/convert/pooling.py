"""How sentence-transformers make one vector of a text's many."""

from __future__ import annotations

import json
from pathlib import Path

from .config import read_json
from .errors import BadConfig
from .pairs import Pairs

_MEAN, _CLS, _LAST = 1, 2, 3
_FLAGS = {
    "pooling_mode_mean_tokens": _MEAN,
    "pooling_mode_cls_token": _CLS,
    "pooling_mode_lasttoken": _LAST,
}
_MODES = {"mean": _MEAN, "cls": _CLS, "lasttoken": _LAST}


def write_pooling(pairs: Pairs, repository: Path) -> None:
    """Writes the kind of pooling that modules.json leads to, if there is one."""
    folder = _pooling_folder(repository)
    if folder is None:
        return
    config = read_json(folder / "config.json")
    kind = next((kind for flag, kind in _FLAGS.items() if config.get(flag)), None)
    pairs.u32(".pooling_type", kind or pooling_number(str(config.get("pooling_mode"))))


def pooling_number(mode: str) -> int:
    """llama.cpp's number for the kind of pooling."""
    if mode not in _MODES:
        raise BadConfig(f"llama.cpp has no pooling of the kind {mode!r}, only {list(_MODES)}")
    return _MODES[mode]


def _pooling_folder(repository: Path) -> Path | None:
    file = repository / "modules.json"
    if not file.is_file():
        return None
    try:
        modules = json.loads(file.read_bytes())
    except ValueError as error:
        raise BadConfig(f"modules.json is not JSON: {error}") from error
    for module in modules if isinstance(modules, list) else ():
        match module:
            case {"type": str(kind), "path": str(path)} if kind.endswith("Pooling"):
                if Path(path).name != path:
                    raise BadConfig(f"modules.json names {path!r}, which is no folder in here")
                return repository / path
    return None
