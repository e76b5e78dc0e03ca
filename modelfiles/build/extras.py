"""What a repository says about its model besides the weights: template, parameters, licence.

Strangers wrote these files. What can't be used is left out, and said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from qm.store.errors import QmError
from qm.store.pull.choice import EXTRAS, GENERATION, LICENSES, MAX_EXTRA_BYTES
from qm.store.pull.choose import RepoFile

from ..parameters import PARAMETERS, OptionError, Value, check
from ..spec import ModelSpec
from ..template import Template
from .jinja import check_template

Progress: TypeAlias = Callable[[dict[str, object]], None]

# of generation_config.json: its name, and ours
_SAMPLING = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}


def readable_extras(files: Iterable[RepoFile], on_progress: Progress) -> list[RepoFile]:
    """Those of a repository's files that are read, and no longer than such texts are."""
    beside = [file for file in files if file.path in EXTRAS]
    for file in beside:
        if file.size_bytes > MAX_EXTRA_BYTES:
            _warn(on_progress, file.path, f"it has {file.size_bytes} bytes")
    return [file for file in beside if file.size_bytes <= MAX_EXTRA_BYTES]


def extras(
    spec: ModelSpec, texts: Mapping[str, bytes], license_id: str, on_progress: Progress
) -> ModelSpec:
    """`spec` with what the files say; `license_id` stands in for a missing licence text."""
    licenses = [_text(texts[name]) for name in LICENSES if name in texts] or [license_id]
    return replace(
        spec,
        template=_template(texts, on_progress),
        system=_text(texts["system"]).strip() or None if "system" in texts else None,
        parameters=_generation(texts, on_progress) | _params(texts, on_progress),
        licenses=tuple(text for text in licenses if text),
    )


def _template(texts: Mapping[str, bytes], on_progress: Progress) -> str | None:
    text = _text(texts.get("template", b""))
    if not text.strip():
        return None
    try:
        check_template(Template.of(text))
    except QmError as error:
        _warn(on_progress, "template", str(error))
        return None
    return text


def _params(texts: Mapping[str, bytes], on_progress: Progress) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, value in _object(texts, "params", on_progress).items():
        if name in PARAMETERS:
            _put(values, name, value, on_progress, "params")
    return values


def _generation(texts: Mapping[str, bytes], on_progress: Progress) -> dict[str, Value]:
    """Sampling that the makers recommend; none where they don't sample."""
    document = _object(texts, GENERATION, on_progress)
    values: dict[str, Value] = {}
    if document.get("do_sample") is False:
        return values
    for theirs, ours in _SAMPLING.items():
        if document.get(theirs) is not None:
            _put(values, ours, document[theirs], on_progress, GENERATION)
    return values


def _put(
    values: dict[str, Value], name: str, value: object, on_progress: Progress, file: str
) -> None:
    try:
        values[name] = check(name, value)
    except OptionError as error:
        _warn(on_progress, file, str(error))


def _object(texts: Mapping[str, bytes], file: str, on_progress: Progress) -> dict[str, object]:
    if file not in texts:
        return {}
    try:
        document = json.loads(texts[file])
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        _warn(on_progress, file, "it is no JSON object")
        return {}
    return document


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _warn(on_progress: Progress, file: str, why: str) -> None:
    on_progress({"status": f"ignoring the repository's {file}: {why}"})
