"""What `/api/show` tells about a model. Pure apart from reading the weights' header."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from qm.modelfiles.model import Details, Model
from qm.modelfiles.show import modelfile_text, parameters_text
from qm.modelfiles.template import Syntax
from qm.store.gguf import LongArray, Value, read_header

from .fields import JsonObject
from .ollama_answer import timestamp

_FLOAT32 = struct.Struct("f")
_EXACT_INTEGERS = 2.0**53
_LARGEST_FLOAT32 = 3.4028234663852886e38
# Shown elsewhere, or of no use to a client.
_HIDDEN_KEYS = ("general.name", "tokenizer.chat_template")
# Editor plugins offer fill-in-the-middle only if the template mentions this.
_SUFFIX_MARK = ".Suffix"


def show_document(model: Model, verbose: bool, n_ctx: int) -> JsonObject:
    """The whole answer, `n_ctx` as the context that is really given; empty fields are left out."""
    header = read_header(model.weights[0], arrays=verbose)
    optional: JsonObject = {
        "license": "\n".join(model.licenses),
        "modelfile": modelfile_text(model),
        "parameters": parameters_text(model.parameters),
        "template": _template(model),
        "system": model.system,
        "messages": [{"role": turn.role, "content": turn.content} for turn in model.messages],
        "requires": model.config.requires,
    }
    ours = {
        "provenance": model.config.provenance and model.config.provenance.to_json(),
        "quality": model.config.quality and model.config.quality.to_json(),
    }
    optional["qm"] = {name: value for name, value in ours.items() if value}
    return {name: value for name, value in optional.items() if value} | {
        "details": details(model.details),
        "model_info": _model_info(model, header.metadata, verbose, n_ctx),
        "tensors": [
            {"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape)}
            for tensor in header.tensors
        ],
        "capabilities": list(model.capabilities),
        "modified_at": timestamp(int(model.modified_s * 1e9)),
    }


def details(told: Details) -> JsonObject:
    """The six fields that every listing has."""
    return {
        "parent_model": told.parent_model,
        "format": told.format,
        "family": told.family,
        "families": list(told.families),
        "parameter_size": told.parameter_size,
        "quantization_level": told.quantization_level,
    }


def _template(model: Model) -> str:
    """The template, with the mark that plugins look for where the model can fill in."""
    if model.template is None:
        return ""
    text = model.template.text
    if "insert" not in model.capabilities or _SUFFIX_MARK in text:
        return text
    go = model.template.kind is Syntax.GO
    return text + (f"{{{{/* {_SUFFIX_MARK} */}}}}" if go else f"{{# {_SUFFIX_MARK} #}}")


def _model_info(
    model: Model, metadata: Mapping[str, Value], verbose: bool, n_ctx: int
) -> JsonObject:
    """The metadata of the weights; arrays only when asked for, and the context that we give."""
    info: JsonObject = {
        key: _plain(value) if verbose or not _is_array(value) else None
        for key, value in sorted(metadata.items())
        if key not in _HIDDEN_KEYS
    }
    info["general.parameter_count"] = model.header.parameter_count
    if model.header.context_length:
        info[f"{model.header.architecture}.context_length"] = n_ctx
    return info


def _is_array(value: object) -> bool:
    return isinstance(value, list | tuple | LongArray)


def _plain(value: object) -> object:
    """As Go prints it: a float in its shortest form, a whole one without its point."""
    match value:
        case LongArray():
            return None
        case float() if value.is_integer() and abs(value) < _EXACT_INTEGERS:
            return int(value)
        case float():
            return _shortest(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _shortest(number: float) -> float:
    """The shortest decimal that is the same 32-bit float; a wider number stays as it is."""
    if abs(number) > _LARGEST_FLOAT32 or _FLOAT32.unpack(_FLOAT32.pack(number))[0] != number:
        return number
    packed = _FLOAT32.pack(number)
    rounded = (float(f"{number:.{digits}g}") for digits in range(6, 10))
    return next(short for short in rounded if _FLOAT32.pack(short) == packed)
