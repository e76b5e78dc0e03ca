"""How each kind of step is done: inputs from the store, output to the store."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

from qm.store.errors import QmError
from qm.store.gguf import Header, read_header
from qm.store.layout import digest_of_file_name

from ..quantization import Quantize
from ..spec import TensorType, tensor_type
from .links import linked
from .needs import check_disk, check_memory, largest_bytes, running_bytes
from .plan import ADAPTER_FOLDER, CHUNK_TOKENS, DELTA_FOLDER, Step, StepKind, Tools, parts_of
from .workshop import Performer, Workshop

CONVERT_VERSION = 2  # raise it when a conversion's bytes change
_COPIES = 3  # of the largest tensor: as it is stored, as F32, as it is written
_FLOAT_BYTES = 4
_DATASET = "qm"  # what an importance matrix says about its text: the provenance has the digest


class ResultInvalid(QmError):
    """A step made a file that is not what it should be; nothing of it was kept."""

    code = "build_result_invalid"


def tools() -> Tools:
    """The versions of what is installed here."""
    from importlib.metadata import version  # noqa: PLC0415  costs time where nothing is built

    return Tools(f"qm-convert/{CONVERT_VERSION}", f"llama-cpp-python/{version('llama-cpp-python')}")


def _convert(workshop: Workshop, step: Step) -> str:
    from .convert import OutType, convert  # noqa: PLC0415  brings numpy

    files = {name: workshop.path(digest) for name, digest in step.inputs.items()}
    check_disk(
        workshop.store.layout, sum(each.stat().st_size for each in files.values()), "converting"
    )
    tell = workshop.count("converting model")
    check_memory(_COPIES * _largest_stored(files), "converting")
    with _folders(workshop, files) as folders, workshop.store.blobs.writer() as writer:
        with writer.hashing_behind():
            convert(
                folders[""],
                writer,
                deltas=[folders[DELTA_FOLDER]] if DELTA_FOLDER in folders else [],
                merge_adapters=[folders[ADAPTER_FOLDER]] if ADAPTER_FOLDER in folders else [],
                out_type=cast(OutType, step.parameters["out_type"]),
                name=str(step.parameters["name"]),
                on_progress=tell,
            )
        workshop.on_progress({"status": "verifying conversion"})
        read_header(writer.path)
        return writer.commit()


def _adapter(workshop: Workshop, step: Step) -> str:
    from .convert import convert_lora  # noqa: PLC0415  brings numpy

    files = {name: workshop.path(digest) for name, digest in step.inputs.items()}
    tell = workshop.count("converting adapter")
    with _folders(workshop, files) as folders, workshop.store.blobs.writer() as writer:
        name = str(step.parameters["name"])
        convert_lora(folders[ADAPTER_FOLDER], folders[""], writer, name=name, on_progress=tell)
        read_header(writer.path)
        return writer.commit()


@contextmanager
def _folders(workshop: Workshop, files: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """A directory of links for the repository, and others for what is added to it."""
    parts: dict[str, dict[str, Path]] = {"": {}}
    for full, path in files.items():
        folder = next(
            (each for each in (DELTA_FOLDER, ADAPTER_FOLDER) if full.startswith(each)), ""
        )
        parts.setdefault(folder, {})[full.removeprefix(folder)] = path
    with ExitStack() as stack:
        yield {
            folder: stack.enter_context(linked(workshop.store.layout, named))
            for folder, named in parts.items()
        }


def _imatrix(workshop: Workshop, step: Step) -> str:
    from .imatrix import compute_imatrix  # noqa: PLC0415  brings llama.cpp
    from .imatrix_file import pack_imatrix  # noqa: PLC0415

    weights = [workshop.path(part) for part in parts_of(step.inputs)]
    text = workshop.path(step.inputs["text"]).read_bytes()
    check_memory(_to_run(weights, CHUNK_TOKENS), "the importance matrix")
    tell = workshop.count("computing importance matrix", "chunks")
    with _in_order(workshop, weights) as paths:
        matrix = compute_imatrix(paths, text, _DATASET, tell)
    return workshop.store.blobs.put(pack_imatrix(matrix))


def _quantize(workshop: Workshop, step: Step) -> str:
    from .imatrix_file import read_imatrix  # noqa: PLC0415  brings numpy
    from .quantise import Order, quantise  # noqa: PLC0415  brings llama.cpp

    weights = [workshop.path(part) for part in parts_of(step.inputs)]
    matrix = step.inputs.get("imatrix")
    wish, tensor_types = _wish(step.parameters)
    order = Order(wish, tensor_types, read_imatrix(workshop.path(matrix)) if matrix else None)
    headers = [read_header(path) for path in weights]
    check_disk(workshop.store.layout, _most_bytes(headers, wish), "quantizing")
    check_memory(_COPIES * largest_bytes(headers), "quantizing")
    status = f"quantizing {headers[0].file_type_name or 'the'} model to {wish.type}"
    with _in_order(workshop, weights) as paths, workshop.store.blobs.writer() as writer:
        writer.filled_by(
            lambda target: quantise(paths[0], target, order, workshop.count(status, "tensors"))
        )
        workshop.on_progress({"status": "verifying quantization"})
        _check_result(read_header(writer.path), headers)
        return writer.commit()


def predicted_sizes(
    workshop: Workshop, weights: Sequence[str], types: Sequence[Quantize]
) -> list[int]:
    """About how many bytes the weights would take in each type."""
    from .quantise import Order, predicted_bytes  # noqa: PLC0415  brings llama.cpp

    workshop.on_progress({"status": "predicting sizes"})
    with _in_order(workshop, [workshop.path(part) for part in weights]) as paths:
        return [predicted_bytes(paths[0], Order(each)) for each in types]


def _evaluate(workshop: Workshop, step: Step) -> str:
    from .evaluate import Subject, evaluate  # noqa: PLC0415  brings llama.cpp

    model = [workshop.path(part) for part in parts_of(step.inputs)]
    base = [workshop.path(part) for part in parts_of(step.inputs, "base")]
    text = workshop.path(step.inputs["text"])
    chunks = step.parameters.get("chunks")
    limit = chunks if isinstance(chunks, int) else None
    check_memory(_to_run(model, CHUNK_TOKENS) + _to_run(base, CHUNK_TOKENS), "evaluating")
    tell = workshop.count("evaluating", "chunks")
    with _in_order(workshop, model) as paths, _in_order(workshop, base) as base_paths:
        quality = evaluate(Subject(paths, base_paths), text.read_bytes(), tell, limit)
    said = replace(quality, text=digest_of_file_name(text.name) or "")
    return workshop.store.blobs.put(json.dumps(said.to_json(), sort_keys=True).encode())


PERFORMERS: Mapping[str, Performer] = {
    StepKind.CONVERT: _convert,
    StepKind.ADAPTER: _adapter,
    StepKind.IMATRIX: _imatrix,
    StepKind.QUANTIZE: _quantize,
    StepKind.EVALUATE: _evaluate,
}


def _largest_stored(files: Mapping[str, Path]) -> int:
    """What the largest tensor of a repository takes as F32; 0 where its files are damaged, which
    the conversion says better.
    """
    from .convert.errors import ConversionError  # noqa: PLC0415  brings numpy
    from .convert.shards import read_shard  # noqa: PLC0415

    shards = [path for name, path in files.items() if name.endswith(".safetensors")]
    try:
        stored = [each for path in shards for each in read_shard(path)]
    except ConversionError:
        return 0
    return _FLOAT_BYTES * max((math.prod(each.shape) for each in stored), default=0)


def _to_run(weights: Sequence[Path], n_tokens: int) -> int:
    headers = [read_header(path) for path in weights]
    return running_bytes(headers, n_tokens) if headers else 0


def _wish(parameters: Mapping[str, object]) -> tuple[Quantize, tuple[TensorType, ...]]:
    said = {key: value for key, value in parameters.items() if key != "tensor_types"}
    listed = parameters.get("tensor_types")
    types = tuple(tensor_type(str(each)) for each in listed) if isinstance(listed, list) else ()
    return Quantize(**said), types  # type: ignore[arg-type]  # what `plan._parameters` wrote


def _most_bytes(headers: list[Header], wish: Quantize) -> int:
    """No result is larger than the source, but F32, or a quantised source that is unpacked."""
    if wish.type == "F32":
        return 4 * sum(header.parameter_count for header in headers)
    return max(sum(header.file_bytes for header in headers), _bits16(headers, wish))


def _bits16(headers: list[Header], wish: Quantize) -> int:
    wide = wish.type in ("F16", "BF16")
    return 2 * sum(header.parameter_count for header in headers) if wide else 0


def _check_result(result: Header, sources: list[Header]) -> None:
    wanted = {tensor.name: tensor.shape for header in sources for tensor in header.tensors}
    found = {tensor.name: tensor.shape for tensor in result.tensors}
    if found != wanted:
        raise ResultInvalid("quantizing lost or reshaped tensors; nothing was kept")


@contextmanager
def _in_order(workshop: Workshop, weights: list[Path]) -> Iterator[list[Path]]:
    """Several parts get the names by which llama.cpp finds the others from the first."""
    if len(weights) <= 1:
        yield weights
        return
    names = [f"model-{n:05}-of-{len(weights):05}.gguf" for n in range(1, len(weights) + 1)]
    files = dict(zip(names, weights, strict=True))
    with linked(workshop.store.layout, files) as directory:
        yield [directory / name for name in names]
