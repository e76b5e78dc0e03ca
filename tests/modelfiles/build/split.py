"""A GGUF in several files, as llama.cpp's own tools cut it."""

from __future__ import annotations

from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter

_OF_THE_FILE = "GGUF."


def split_gguf(source: Path, target: Path, most_tensors: int) -> list[Path]:
    """Writes `target` with -00001-of-0000N before its ending; the parts in order."""
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture, split_max_tensors=most_tensors)
    for name, field in reader.fields.items():
        if name.startswith(_OF_THE_FILE) or name == "general.architecture":
            continue
        items = field.types[1] if field.types[0] is GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], items)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(target.parent.glob(f"{target.stem}-*-of-*.gguf"))
