"""The steps that convert: repositories to GGUF, and LoRAs to adapters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

from qm.store.gguf import read_header
from qm.store.writer import BlobWriter

from .ahead import Ahead, beginning_ahead
from .links import PICKLE, linked
from .needs import TENSOR_COPIES, check_disk, check_memory
from .plan import ADAPTER_FOLDER, DELTA_FOLDER, Step
from .quantising import task_ahead
from .workshop import Workshop

_FLOAT_BYTES = 4


def convert_step(workshop: Workshop, step: Step) -> str:
    """The GGUF; where it only has to be quantised next, that begins while it is written."""
    files = {name: workshop.path(digest) for name, digest in step.inputs.items()}
    check_disk(workshop.store.layout, _disk_bytes(files), "converting")
    tell = workshop.count("converting model")
    needed_bytes = max(TENSOR_COPIES * _largest_stored(files), _largest_pickle(files))
    check_memory(needed_bytes, "converting")
    task = task_ahead(workshop, step, needed_bytes)
    with (
        _folders(workshop, files) as folders,
        linked(workshop.store.layout, {}) as scratch,
        workshop.store.blobs.writer() as writer,
    ):
        with beginning_ahead(writer, _check_loads, task) as ahead, writer.hashing_behind():
            _convert(step, folders, writer, ahead, tell, scratch=scratch)
        workshop.on_progress({"status": "verifying conversion"})
        if ahead is None or not ahead.confirm():
            read_header(writer.path)
            _check_loads(writer.path)
        workshop.ahead = ahead
        return writer.commit()


def _disk_bytes(files: Mapping[str, Path]) -> int:
    """As much as there is; of pickles once more, as what they are opened to."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    opened = sum(size for name, size in sizes.items() if PICKLE.fullmatch(name))
    return sum(sizes.values()) + opened


def _check_loads(path: Path) -> None:
    from .loading import check_loads  # noqa: PLC0415  brings llama.cpp

    check_loads(path)


def adapter_step(workshop: Workshop, step: Step) -> str:
    """The GGUF of the LoRA."""
    from .convert import convert_lora  # noqa: PLC0415  brings numpy

    files = {name: workshop.path(digest) for name, digest in step.inputs.items()}
    tell = workshop.count("converting adapter")
    with _folders(workshop, files) as folders, workshop.store.blobs.writer() as writer:
        name = str(step.parameters["name"])
        convert_lora(folders[ADAPTER_FOLDER], folders[""], writer, name=name, on_progress=tell)
        read_header(writer.path)
        return writer.commit()


def _convert(
    step: Step,
    folders: Mapping[str, Path],
    writer: BlobWriter,
    ahead: Ahead | None,
    tell: Callable[[int, int], None],
    *,
    scratch: Path,
) -> None:
    from .convert import OutType, convert  # noqa: PLC0415  brings numpy

    def on_progress(written_bytes: int, total_bytes: int) -> None:
        if ahead is not None:
            ahead.written(written_bytes)
        tell(written_bytes, total_bytes)

    convert(
        folders[""],
        writer,
        deltas=[folders[DELTA_FOLDER]] if DELTA_FOLDER in folders else [],
        merge_adapters=[folders[ADAPTER_FOLDER]] if ADAPTER_FOLDER in folders else [],
        out_type=cast(OutType, step.parameters["out_type"]),
        name=str(step.parameters["name"]),
        allow_pickle=step.parameters.get("allow_pickle") is True,
        scratch=scratch,
        on_progress=on_progress,
        on_laid_out=None if ahead is None else ahead.laid_out,
    )


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


def _largest_pickle(files: Mapping[str, Path]) -> int:
    """What a child holds of it: the file as it is opened, and its tensors once more."""
    sizes = [path.stat().st_size for name, path in files.items() if PICKLE.fullmatch(name)]
    return 2 * max(sizes, default=0)


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
