"""How each kind of step is done: inputs from the store, output to the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qm.store.gguf import read_header
from qm.store.layout import digest_of_file_name

from ..binding import binding_version
from ..quantization import Quantize
from .converting import adapter_step, convert_step
from .needs import check_memory, running_bytes
from .plan import CHUNK_TOKENS, Step, StepKind, Tools, parts_of
from .quantising import in_order, quantize_step
from .workshop import Performer, Workshop

CONVERT_VERSION = 3  # raise it when a conversion's bytes change
_DATASET = "qm"  # what an importance matrix says about its text: the provenance has the digest


def tools() -> Tools:
    """The versions of what is installed here."""
    return Tools(f"qm-convert/{CONVERT_VERSION}", f"llama-cpp-python/{binding_version()}")


def _imatrix(workshop: Workshop, step: Step) -> str:
    from .imatrix import compute_imatrix  # noqa: PLC0415  brings llama.cpp
    from .imatrix_file import pack_imatrix  # noqa: PLC0415

    weights = [workshop.path(part) for part in parts_of(step.inputs)]
    text = workshop.path(step.inputs["text"]).read_bytes()
    check_memory(_to_run(weights, CHUNK_TOKENS), "the importance matrix")
    tell = workshop.count("computing importance matrix", "chunks")
    with in_order(workshop, weights) as paths:
        matrix = compute_imatrix(paths, text, _DATASET, tell)
    return workshop.store.blobs.put(pack_imatrix(matrix))


def predicted_sizes(
    workshop: Workshop, weights: Sequence[str], types: Sequence[Quantize]
) -> list[int]:
    """About how many bytes the weights would take in each type."""
    from .quantise import Order, predicted_bytes  # noqa: PLC0415  brings llama.cpp

    workshop.on_progress({"status": "predicting sizes"})
    with in_order(workshop, [workshop.path(part) for part in weights]) as paths:
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
    with in_order(workshop, model) as paths, in_order(workshop, base) as base_paths:
        quality = evaluate(Subject(paths, base_paths), text.read_bytes(), tell, limit)
    said = replace(quality, text=digest_of_file_name(text.name) or "")
    return workshop.store.blobs.put(json.dumps(said.to_json(), sort_keys=True).encode())


PERFORMERS: Mapping[str, Performer] = {
    StepKind.CONVERT: convert_step,
    StepKind.ADAPTER: adapter_step,
    StepKind.IMATRIX: _imatrix,
    StepKind.QUANTIZE: quantize_step,
    StepKind.EVALUATE: _evaluate,
}


def _to_run(weights: Sequence[Path], n_tokens: int) -> int:
    headers = [read_header(path) for path in weights]
    return running_bytes(headers, n_tokens) if headers else 0
