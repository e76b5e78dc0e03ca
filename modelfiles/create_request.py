"""A ModelSpec as the JSON of `/api/create`: Ollama's keys, and ours for our instructions."""

from __future__ import annotations

from collections.abc import Mapping

from qm.store.errors import InvalidRequest

from .parameters import PARAMETERS, RETIRED, OptionError, Value, check, to_json
from .parser import ROLES, ModelfileError
from .spec import (
    IMATRIX_WORDS,
    ModelSpec,
    NotYet,
    Source,
    Turn,
    check_quantize,
    check_requires,
    check_template,
    tensor_type,
)

_POOLING = "_Pooling"


class InvalidSpec(InvalidRequest):
    """A request to create a model that can't be understood."""

    code = "invalid_create_request"


def from_create_request(body: Mapping[str, object]) -> ModelSpec:
    """What the JSON of `/api/create` asks for. Raises InvalidSpec or OptionError; ignores keys
    that it does not know, as clients send them.
    """
    name, files = _text(body, "from"), _files(body, "files")
    if not name and not files:
        raise InvalidSpec("neither 'from' or 'files' was specified")
    if _text(body, "remote_host"):
        raise NotYet("remote_host")
    cleared = _texts(body, "clear")
    requires, template = _text(body, "requires"), _text(body, "template")
    check_requires(requires)
    check_template(template)
    quantize = _text(body, "quantize") or _text(body, "quantization")  # its name before 2024
    check_quantize(quantize)
    draft, draft_files = _text(body, "draft"), _files(body, "draft_files")
    draft_quantize = _text(body, "draft_quantize")
    check_quantize(draft_quantize)
    return ModelSpec(
        from_=((Source(name),) if name else ()) + files,
        quantize=quantize,
        imatrix=_imatrix(body),
        imatrix_file=next(iter(_sources(body, "imatrix_file", "imatrix_from")), None),
        calibration=next(iter(_sources(body, "calibration", "calibration_from")), None),
        tensor_types=tuple(tensor_type(each) for each in _texts(body, "tensor_types")),
        deltas=_sources(body, "delta_files", "delta_from"),
        adapters=_sources(body, "adapters", "adapter_from"),
        merge=body.get("merge") is True,
        allow_pickle=body.get("allow_pickle") is True,
        drafts=draft_files or ((Source(draft),) if draft else ()),
        draft_quantize=draft_quantize,
        template=template or ("" if "template" in cleared else None),
        system=_text(body, "system") or ("" if "system" in cleared else None),
        parameters=_json_parameters(body),
        messages=_messages(body),
        licenses=tuple(text for text in _texts(body, "license") if text),
        requires=requires,
        renderer=_text(body, "renderer"),
        parser=_text(body, "parser"),
        evaluate=body.get("evaluate") is True,
    )


def to_create_request(spec: ModelSpec, digests: Mapping[str, str]) -> dict[str, object]:
    """The JSON that `from_create_request` reads back. `digests` has those of the local files, by
    the text that named them; what is not in it is a model's name or a repository.
    """
    names = [each.text for each in spec.from_ if _digest(each, digests) is None]
    drafts = [each.text for each in spec.drafts if _digest(each, digests) is None]
    request: dict[str, object] = {
        "from": names[-1] if names else "",
        "files": _by_file_name(spec.from_, digests),
        "adapters": _by_file_name(spec.adapters, digests, required=True),
        "adapter_from": _of_hub(spec.adapters),
        "template": spec.template,
        "system": spec.system,
        "license": list(spec.licenses),
        "parameters": to_json(spec.parameters),
        "messages": [{"role": turn.role, "content": turn.content} for turn in spec.messages],
        "requires": spec.requires,
        "renderer": spec.renderer,
        "parser": spec.parser,
        "quantize": spec.quantize,
        "imatrix": spec.imatrix,
        "imatrix_file": _by_file_name(_one(spec.imatrix_file), digests, required=True),
        "imatrix_from": _of_hub(_one(spec.imatrix_file)),
        "calibration": _by_file_name(_one(spec.calibration), digests, required=True),
        "calibration_from": _of_hub(_one(spec.calibration)),
        "draft": drafts[-1] if drafts else "",
        "draft_files": _by_file_name(spec.drafts, digests),
        "draft_quantize": spec.draft_quantize,
        "tensor_types": [f"{each.pattern}={each.type}" for each in spec.tensor_types],
        "delta_files": _by_file_name(spec.deltas, digests, required=True),
        "delta_from": _of_hub(spec.deltas),
        "merge": spec.merge,
        "allow_pickle": spec.allow_pickle,
        "evaluate": spec.evaluate,
        "clear": [key for key in ("template", "system") if getattr(spec, key) == ""],
    }
    return {key: value for key, value in request.items() if value}


def _json_parameters(body: Mapping[str, object]) -> dict[str, Value]:
    values = body.get("parameters") or {}
    if not isinstance(values, dict):
        raise InvalidSpec("parameters must be an object")
    unknown = [name for name in values if name not in PARAMETERS and name not in RETIRED]
    if unknown:
        raise OptionError(unknown[0], "does not exist")
    return {
        name: check(name, value)
        for name, value in values.items()
        if value is not None and name in PARAMETERS
    }


def _messages(body: Mapping[str, object]) -> tuple[Turn, ...]:
    listed = body.get("messages") or []
    if not isinstance(listed, list):
        raise InvalidSpec("messages must be an array")
    return tuple(_turn(each, at) for at, each in enumerate(listed))


def _turn(message: object, at: int) -> Turn:
    match message:
        case {"role": str(role), "content": str(content)} if role in ROLES:
            return Turn(role, content)
        case {"role": str(role)} if role not in ROLES:
            raise InvalidSpec(f"messages[{at}].role must be one of {', '.join(ROLES)}")
    raise InvalidSpec(f"messages[{at}] must have a role and a content, both strings")


def _text(body: Mapping[str, object], key: str) -> str:
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidSpec(f"{key} must be a string")
    return value


def _imatrix(body: Mapping[str, object]) -> str:
    word = _text(body, "imatrix").lower()
    if word not in IMATRIX_WORDS:
        raise InvalidSpec("imatrix must be auto or none; a file goes into imatrix_file")
    return word


def _texts(body: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = body.get(key) or ()
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) for each in listed):
        raise InvalidSpec(f"{key} must be a string or an array of strings")
    return tuple(listed)


def _files(body: Mapping[str, object], key: str) -> tuple[Source, ...]:
    value = body.get(key) or {}
    if not isinstance(value, dict):
        raise InvalidSpec(f"{key} must be an object of file names to digests")
    for digest in value.values():
        if not isinstance(digest, str):
            raise InvalidSpec(f"{key} must be an object of file names to digests")
    return tuple(Source(str(name), digest) for name, digest in value.items())


def _sources(body: Mapping[str, object], files: str, hub: str) -> tuple[Source, ...]:
    """Files that are here, and repositories or files of the hub that must be fetched first."""
    named = tuple(Source(text) for text in _texts(body, hub))
    for each in named:
        if not each.is_hub:
            raise InvalidSpec(f"{hub} must name what is on the hub, hf.co/org/repo…")
    return _files(body, files) + named


def _of_hub(sources: tuple[Source, ...]) -> list[str]:
    return [each.text for each in sources if each.is_hub and not each.digest]


def _one(source: Source | None) -> tuple[Source, ...]:
    return () if source is None else (source,)


def _digest(source: Source, digests: Mapping[str, str]) -> str | None:
    return source.digest or digests.get(source.text)


def _by_file_name(
    sources: tuple[Source, ...], digests: Mapping[str, str], *, required: bool = False
) -> dict[str, str]:
    files: dict[str, str] = {}
    for source in sources:
        digest = _digest(source, digests)
        if digest is None and required and not source.is_hub:
            raise ModelfileError(f"no such file: {source.text}", source.line)
        if digest is not None:
            name = _file_name(source.text)
            files[name if name not in files else f"{len(files)}-{name}"] = digest
    return files


def _file_name(text: str) -> str:
    """The last part; with its folder for what sentence-transformers keep in `1_Pooling`."""
    *_, folder, name = ("", *text.replace("\\", "/").split("/"))
    return f"{folder}/{name}" if folder.endswith(_POOLING) else name
