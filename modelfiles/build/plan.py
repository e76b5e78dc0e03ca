"""What has to be done to build a model's weights: pure, from what is given and what is wished.

    repository ─ convert ─┐
    GGUF, other model ────┴─ (imatrix) ─ quantize ─ (evaluate)

A step's key is the digest of its inputs, its parameters and its tool's version, so the same key
always means the same output. An input is a blob's digest, or the key of the step that makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from hashlib import sha256

from qm.store.errors import InvalidRequest

from ..quantization import COPY, FULL_PRECISION, Quantize
from ..spec import TensorType
from .links import PICKLE

KEY_PREFIX = "step:"
CHUNK_TOKENS = 512


class NeedsImatrix(InvalidRequest):
    """A type that is garbage without an importance matrix was asked for without one."""

    code = "needs_imatrix"


class Requantizing(InvalidRequest):
    """Quantising what is quantised already, without saying that this is meant."""

    code = "already_quantized"


DELTA_FOLDER, ADAPTER_FOLDER = "delta/", "adapter/"  # where inputs of a conversion are from


class StepKind(StrEnum):
    CONVERT = "convert"
    ADAPTER = "adapter"
    IMATRIX = "imatrix"
    QUANTIZE = "quantize"
    EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work with one blob as its output. All that it needs is in here."""

    kind: StepKind
    tool: str
    inputs: Mapping[str, str]  # by role; for a conversion by file name
    parameters: Mapping[str, object]

    @property
    def key(self) -> str:
        facts = [self.kind, self.tool, dict(self.inputs), dict(self.parameters)]
        return KEY_PREFIX + sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Tools:
    """The versions that keys depend on."""

    convert: str
    llama_cpp: str


@dataclass(frozen=True, slots=True)
class Given:
    """What there is to build from: files of a repository, or parts of a GGUF, as digests.

    `type` is the file type of the GGUF, empty where it doesn't say. `name` is the repository's.
    """

    repository: Mapping[str, str] = field(default_factory=dict)
    delta: Mapping[str, str] = field(default_factory=dict)  # files to be added to the repository's
    adapter: Mapping[str, str] = field(default_factory=dict)  # files of a LoRA in PEFT's format
    merge: bool = False  # the adapter becomes part of the weights
    allow_pickle: bool = False  # opened in a child, where the repository has nothing else
    described: str = ""  # a config.json made from the GGUF, for the adapter's conversion
    name: str = ""
    weights: tuple[str, ...] = ()
    type: str = ""
    generates: bool = True  # False for models that only embed: no text to predict


@dataclass(frozen=True, slots=True)
class Wishes:
    """What shall come out. `imatrix` is a digest, or empty for `auto`; digests for texts too."""

    quantize: Quantize | None = None
    tensor_types: tuple[TensorType, ...] = ()
    imatrix: str = ""
    use_imatrix: bool = True
    calibration: str = ""
    evaluation: str = ""  # the text, if the result shall be measured
    chunks: int = 0  # of it; 0 takes it whole


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order to take them; `weights` are what the model will have."""

    steps: tuple[Step, ...]
    weights: tuple[str, ...]
    adapters: tuple[str, ...] = ()


def plan(given: Given, wishes: Wishes, tools: Tools) -> Plan:
    """Raises NeedsImatrix or Requantizing."""
    steps: list[Step] = []
    weights = given.weights
    if given.repository:
        steps.append(_convert(given, wishes, tools))
        weights = (steps[-1].key,)
    base = weights
    adapters = [_adapter(given, tools)] if given.adapter and not given.merge else []
    steps += adapters
    if wishes.quantize is not None and _changes(given, wishes, wishes.quantize):
        steps += _quantize(given, weights, wishes, wishes.quantize, tools)
        weights = (steps[-1].key,)
    if wishes.evaluation:
        steps.append(_evaluate(weights, base if base != weights else (), wishes, tools))
    return Plan(tuple(steps), weights, tuple(step.key for step in adapters))


def model_roles(weights: Sequence[str], role: str = "model") -> dict[str, str]:
    """The parts of a model as inputs: `model`, or `model.1`, `model.2`… in order."""
    if len(weights) == 1:
        return {role: weights[0]}
    return {f"{role}.{number:05}": part for number, part in enumerate(weights, 1)}


def parts_of(inputs: Mapping[str, str], role: str = "model") -> list[str]:
    """What `model_roles` put in."""
    return [inputs[key] for key in sorted(inputs) if key == role or key.startswith(f"{role}.")]


def within(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    """Files by name, as inputs of a conversion have them."""
    return {f"{folder}{name}": digest for name, digest in files.items()}


def _convert(given: Given, wishes: Wishes, tools: Tools) -> Step:
    """Straight to the wished type where that is a float type: no second pass over the weights."""
    wished = wishes.quantize.type if wishes.quantize else ""
    out_type = wished.lower() if _is_plain_float(wishes) else "auto"
    parameters: dict[str, object] = {"out_type": out_type, "name": given.name}
    inputs = {**given.repository, **within(DELTA_FOLDER, given.delta)}
    if given.merge:
        inputs |= within(ADAPTER_FOLDER, given.adapter)
    if given.allow_pickle and any(PICKLE.fullmatch(name) for name in inputs):
        parameters["allow_pickle"] = True
    return Step(StepKind.CONVERT, tools.convert, inputs, parameters)


def _adapter(given: Given, tools: Tools) -> Step:
    """Of the base only its description is needed."""
    inputs = {"config.json": given.described or given.repository["config.json"]}
    inputs |= within(ADAPTER_FOLDER, given.adapter)
    return Step(StepKind.ADAPTER, tools.convert, inputs, {"name": given.name})


def _is_plain_float(wishes: Wishes) -> bool:
    wish = wishes.quantize
    return (
        wish is not None
        and wish == Quantize(wish.type, threads=wish.threads)
        and wish.type in FULL_PRECISION
        and not wishes.tensor_types
    )


def _changes(given: Given, wishes: Wishes, wish: Quantize) -> bool:
    """Whether quantising has anything to do."""
    if given.repository:
        return not _is_plain_float(wishes)
    plain = Quantize(wish.type, requantize=wish.requantize, threads=wish.threads)
    if wish != plain or wish.type == COPY or wish.type != given.type:
        return True
    return bool(wishes.tensor_types)


def _quantize(
    given: Given, weights: tuple[str, ...], wishes: Wishes, wish: Quantize, tools: Tools
) -> Iterator[Step]:
    quantised = bool(given.weights) and given.type not in FULL_PRECISION
    if quantised and not wish.requantize and wish.type != COPY:
        raise Requantizing(
            f"the model is {given.type or 'quantized'} already; quantize its F16, BF16 or F32 "
            f"version, or say that the loss is fine: QUANTIZE {wish.type} requantize"
        )
    matrix = wishes.imatrix
    if not matrix and wishes.use_imatrix and wish.profits_from_imatrix and given.generates:
        inputs = {**model_roles(weights), "text": wishes.calibration}
        step = Step(StepKind.IMATRIX, tools.llama_cpp, inputs, {"chunk_tokens": CHUNK_TOKENS})
        yield step
        matrix = step.key
    if wish.needs_imatrix and not matrix:
        raise NeedsImatrix(
            f"{wish.type} needs an importance matrix; without IMATRIX none one is computed, "
            "or name a file: IMATRIX <path>"
        )
    inputs = model_roles(weights) | ({"imatrix": matrix} if matrix else {})
    yield Step(StepKind.QUANTIZE, tools.llama_cpp, inputs, _parameters(wish, wishes.tensor_types))


def _parameters(wish: Quantize, tensor_types: tuple[TensorType, ...]) -> dict[str, object]:
    """What decides the bytes: the number of threads does not."""
    said = {key: value for key, value in asdict(wish).items() if value and key != "threads"}
    if tensor_types:
        said["tensor_types"] = [f"{each.pattern}={each.type}" for each in tensor_types]
    return said


def _evaluate(
    weights: tuple[str, ...], base: tuple[str, ...], wishes: Wishes, tools: Tools
) -> Step:
    inputs = {**model_roles(weights), **model_roles(base, "base"), "text": wishes.evaluation}
    parameters: dict[str, object] = {"chunk_tokens": CHUNK_TOKENS}
    if wishes.chunks:
        parameters["chunks"] = wishes.chunks
    return Step(StepKind.EVALUATE, tools.llama_cpp, inputs, parameters)
