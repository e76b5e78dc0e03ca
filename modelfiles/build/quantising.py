"""The step that quantises, after its input is made or, where it can, while it is being made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qm.store.errors import InvalidRequest, QmError
from qm.store.ggml import TYPES_BY_NAME
from qm.store.gguf import Header, read_header
from qm.store.store import Store
from qm.store.writer import BlobWriter

from ..memory import read_memory
from ..quantization import Quantize
from ..spec import TensorType, tensor_type
from .ahead import Guard, Task
from .idle import unmatched
from .links import linked
from .needs import TENSOR_COPIES, check_disk, check_memory, largest_bytes
from .plan import KEY_PREFIX, Step, StepKind, parts_of
from .register import Progress
from .workshop import Workshop

if TYPE_CHECKING:
    from .quantise import OnTensor, Order


class ResultInvalid(QmError):
    """A step made a file that is not what it should be; nothing of it was kept."""

    code = "build_result_invalid"


def quantize_step(workshop: Workshop, step: Step) -> str:
    """The quantised GGUF."""
    ahead, workshop.ahead = workshop.ahead, None
    if ahead is not None and (made := ahead.result(workshop.on_progress)):
        return made
    weights = [workshop.path(part) for part in parts_of(step.inputs)]
    headers = [read_header(path) for path in weights]
    work = _work(workshop, step)
    with in_order(workshop, weights) as paths:
        guard = Guard(lambda _: None, lambda: None)
        return work.done(paths[0], headers, guard, workshop.on_progress)


def task_ahead(workshop: Workshop, step: Step, needed_bytes: int) -> Task | None:
    """What the step after `step` does, where that can go on beside it: where it needs nothing but
    its output, was not done before, and memory is free for `needed_bytes` of both.
    """
    following = workshop.following
    if following is None or following.kind != StepKind.QUANTIZE:
        return None
    if following.inputs.get("model") != step.key or not workshop.is_due(following):
        return None
    if following.inputs.get("imatrix", "").startswith(KEY_PREFIX):
        return None
    if read_memory().available_bytes < 2 * needed_bytes:
        return None
    work = _work(workshop, following)
    return lambda source, header, guard, tell: work.done(source, [header], guard, tell)


class RowsDontFit(InvalidRequest):
    """A type for the embedding or the output that packs more numbers than their rows have."""

    code = "rows_dont_fit"


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be done; `done` needs no workshop, so that a thread can do it."""

    store: Store
    wish: Quantize
    tensor_types: tuple[TensorType, ...]
    imatrix: Path | None

    def done(
        self,
        source: Path,
        headers: list[Header],
        guard: Guard,
        on_progress: Progress,
    ) -> str:
        """The digest of the blob that was made."""
        from .imatrix_file import read_imatrix  # noqa: PLC0415  brings numpy
        from .quantise import Order  # noqa: PLC0415  brings llama.cpp

        _check_rows(headers, self.wish)
        matrix = read_imatrix(self.imatrix) if self.imatrix else None
        order = Order(self.wish, self.tensor_types, matrix)
        check_disk(self.store.layout, _most_bytes(headers, self.wish), "quantizing")
        check_memory(TENSOR_COPIES * largest_bytes(headers), "quantizing")
        names = [tensor.name for header in headers for tensor in header.tensors]
        for sentence in unmatched(self.tensor_types, names):
            on_progress({"status": f"note: {sentence}"})
        status = f"quantizing {headers[0].file_type_name or 'the'} model to {self.wish.type}"

        def on_tensor(name: str, number: int, count: int) -> None:
            on_progress({"status": status, "completed": number, "total": count, "unit": "tensors"})
            guard.wait_for(name)

        with self.store.blobs.writer() as writer:
            on_progress({"status": status, "completed": 0, "total": 0, "unit": "tensors"})
            with _written(writer, source, headers, order, on_tensor):
                on_progress({"status": "verifying quantization"})
                _check_result(read_header(writer.path), headers)
            guard.confirm()
            return writer.commit()


@contextmanager
def _written(
    writer: BlobWriter, source: Path, headers: list[Header], order: Order, on_tensor: OnTensor
) -> Iterator[None]:
    """The quantised file; within it that is read, while the rest of it is hashed."""
    from .quantise import quantise, quantised  # noqa: PLC0415  brings llama.cpp

    made = quantised(source, headers[0], order, on_tensor) if len(headers) == 1 else None
    if made is None:
        with writer.filled_by(lambda target: quantise(source, target, order, on_tensor)):
            yield
        return
    writer.expect(made.size_bytes)
    with writer.hashing_behind(), closing(made.data):
        for each in made.data:
            writer.write(each)
        yield


def _work(workshop: Workshop, step: Step) -> _Work:
    matrix = step.inputs.get("imatrix")
    wish, tensor_types = _wish(step.parameters)
    path = workshop.path(matrix) if matrix else None
    return _Work(workshop.store, wish, tensor_types, path)


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


def _check_rows(headers: list[Header], wish: Quantize) -> None:
    """Raises RowsDontFit: llama.cpp puts another type in the place of most that don't, not of
    these, for which it aborts.
    """
    wished = {"token_embd.weight": wish.embedding, "output.weight": wish.output}
    for tensor in (tensor for header in headers for tensor in header.tensors):
        kind = TYPES_BY_NAME.get(wished.get(tensor.name, ""))
        if kind is not None and tensor.shape and tensor.shape[0] % kind.block_items:
            raise RowsDontFit(
                f"{tensor.name} has rows of {tensor.shape[0]} numbers, {kind.name} packs "
                f"{kind.block_items} at a time; name another type for it, such as F16"
            )


def _bits16(headers: list[Header], wish: Quantize) -> int:
    wide = wish.type in ("F16", "BF16")
    return 2 * sum(header.parameter_count for header in headers) if wide else 0


def _check_result(result: Header, sources: list[Header]) -> None:
    wanted = {tensor.name: tensor.shape for header in sources for tensor in header.tensors}
    found = {tensor.name: tensor.shape for tensor in result.tensors}
    if found != wanted:
        raise ResultInvalid("quantizing lost or reshaped tensors; nothing was kept")


@contextmanager
def in_order(workshop: Workshop, weights: list[Path]) -> Iterator[list[Path]]:
    """Several parts get the names by which llama.cpp finds the others from the first."""
    if len(weights) <= 1:
        yield weights
        return
    names = [f"model-{n:05}-of-{len(weights):05}.gguf" for n in range(1, len(weights) + 1)]
    files = dict(zip(names, weights, strict=True))
    with linked(workshop.store.layout, files) as directory:
        yield [directory / name for name in names]
