"""What a model shall be made from: one value, whether a Modelfile or a request said it.

Light enough for the CLI, which reads Modelfiles and sends what they say as a request
(`create_request.to_create_request`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from qm.store.errors import InvalidRequest
from qm.store.pull.reference import is_hub

from .parameters import PARAMETERS, RETIRED, OptionError, Value, parse_texts
from .parser import Modelfile, ModelfileError
from .quantization import check_pattern, parse_quantize, tensor_type_name
from .template import Template

IMATRIX_WORDS = ("", "auto", "none")
_VERSION = re.compile(r"v?\d+(\.\d+){0,2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_NOT_YET = (
    "RENDERER",
    "PARSER",
)


class NotYet(InvalidRequest):
    """An instruction that this version of qm reads but can't carry out."""

    code = "not_supported_yet"

    def __init__(self, what: str, line: int = 0) -> None:
        where = f"line {line}: " if line else ""
        super().__init__(f"{where}{what} is not supported yet by this version of qm")
        self.line = line


@dataclass(frozen=True, slots=True)
class Source:
    """Where one input comes from: a name, a path or a repository, as it was written.

    `digest` is set once its file is in the store. It is checked where it is used.
    """

    text: str
    digest: str = ""
    line: int = field(default=0, compare=False)

    @property
    def is_hub(self) -> bool:
        """It names a repository of the Hugging Face hub."""
        return is_hub(self.text)


@dataclass(frozen=True, slots=True)
class TensorType:
    """Tensors whose name matches `pattern` become `type`."""

    pattern: str
    type: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One message that every conversation starts with."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything that decides what a model becomes.

    `imatrix` is one of IMATRIX_WORDS. None for `template` and `system` means that nothing was
    said; an empty text takes away what the base has. `lines` has the first line of each
    instruction, for error messages.
    """

    from_: tuple[Source, ...]
    quantize: str = ""
    imatrix: str = ""
    imatrix_file: Source | None = None
    calibration: Source | None = None
    tensor_types: tuple[TensorType, ...] = ()
    deltas: tuple[Source, ...] = ()
    adapters: tuple[Source, ...] = ()
    merge: bool = False  # adapters go into the weights instead of being applied at load
    allow_pickle: bool = False  # weights that are pickles are opened, by a confined child
    drafts: tuple[Source, ...] = ()  # the files of one model, or its name
    draft_quantize: str = ""
    template: str | None = None
    system: str | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    messages: tuple[Turn, ...] = ()
    licenses: tuple[str, ...] = ()
    requires: str = ""
    renderer: str = ""
    parser: str = ""
    evaluate: bool = False
    warnings: tuple[str, ...] = field(default=(), compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    def refuse_unperformable(self) -> None:
        """Raises NotYet for the first instruction that this version can't carry out."""
        asked = {
            "RENDERER": self.renderer,
            "PARSER": self.parser,
        }
        for keyword in _NOT_YET:
            if asked[keyword]:
                raise NotYet(keyword, self.lines.get(keyword, 0))


def from_modelfile(modelfile: Modelfile) -> ModelSpec:
    """Raises ModelfileError with the line, also for a parameter that does not exist or fit."""
    if not modelfile.of("FROM"):
        raise ModelfileError("no FROM line; the first thing a model needs is what it is made from")
    parameters, warnings = _parameters(modelfile)
    requires, template = _last(modelfile, "REQUIRES") or "", _last(modelfile, "TEMPLATE")
    lines = {each.keyword: each.line for each in reversed(modelfile.instructions)}
    check_requires(requires, lines.get("REQUIRES", 0))
    check_template(template)
    quantize, imatrix = _last(modelfile, "QUANTIZE") or "", _last(modelfile, "IMATRIX") or ""
    check_quantize(quantize)
    return ModelSpec(
        from_=_sources(modelfile, "FROM"),
        quantize=quantize,
        imatrix=imatrix if imatrix.lower() in IMATRIX_WORDS else "",
        imatrix_file=None
        if imatrix.lower() in IMATRIX_WORDS
        else _last_source(modelfile, "IMATRIX"),
        calibration=_last_source(modelfile, "CALIBRATION"),
        tensor_types=tuple(
            tensor_type(each.argument, each.line) for each in modelfile.of("TENSOR_TYPE")
        ),
        deltas=_sources(modelfile, "DELTA"),
        adapters=_sources(modelfile, "ADAPTER"),
        drafts=_sources(modelfile, "DRAFT")[-1:],
        template=template,
        system=_last(modelfile, "SYSTEM"),
        parameters=parameters,
        messages=tuple(Turn(each.name, each.argument) for each in modelfile.of("MESSAGE")),
        licenses=tuple(each.argument for each in modelfile.of("LICENSE") if each.argument),
        requires=requires,
        renderer=_last(modelfile, "RENDERER") or "",
        parser=_last(modelfile, "PARSER") or "",
        evaluate=bool(modelfile.of("EVALUATE")),
        warnings=warnings,
        lines=lines,
    )


def tensor_type(text: str, line: int = 0) -> TensorType:
    """What `<pattern>=<type>` says. Raises ModelfileError."""
    pattern, _, kind = text.rpartition("=")
    if not pattern or not kind:
        raise ModelfileError("TENSOR_TYPE needs <pattern>=<type>", line)
    check_pattern(pattern)
    return TensorType(pattern, tensor_type_name(kind))


def check_quantize(text: str) -> None:
    """Raises UnknownType or InvalidQuantize."""
    if text:
        parse_quantize(text)


def check_requires(version: str, line: int = 0) -> None:
    """Raises ModelfileError for what is no version."""
    if version and not _VERSION.fullmatch(version):
        raise ModelfileError(f"REQUIRES needs a version such as 0.14.0, not '{version}'", line)


def check_template(text: str | None) -> None:
    """Raises TemplateSyntaxError."""
    if text:
        Template.of(text).check()


def _sources(modelfile: Modelfile, keyword: str) -> tuple[Source, ...]:
    return tuple(Source(each.argument, line=each.line) for each in modelfile.of(keyword))


def _last_source(modelfile: Modelfile, keyword: str) -> Source | None:
    return next(reversed(_sources(modelfile, keyword)), None)


def _last(modelfile: Modelfile, keyword: str) -> str | None:
    return next((each.argument for each in reversed(modelfile.of(keyword))), None)


def _parameters(modelfile: Modelfile) -> tuple[dict[str, Value], tuple[str, ...]]:
    written: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    warnings = []
    for each in modelfile.of("PARAMETER"):
        lines[each.name] = each.line
        if each.name in RETIRED:
            warnings.append(f"line {each.line}: PARAMETER {each.name} has no effect any more")
        elif each.name in PARAMETERS:
            written.setdefault(each.name, []).append(each.argument)
        else:
            raise ModelfileError(f"unknown parameter '{each.name}'", each.line)
    try:
        values = {name: parse_texts(name, texts) for name, texts in written.items()}
    except OptionError as error:
        raise ModelfileError(str(error), lines[error.option]) from error
    return values, tuple(warnings)
