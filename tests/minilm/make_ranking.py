"""Makes a ranking model of an embedding model: `python make_ranking.py MODEL.gguf OUT.gguf`."""

from __future__ import annotations

import sys

import gguf
import numpy as np

_RANK = 4
_WIDTH = 384


def main(model: str, out: str) -> None:
    reader = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(out, "bert")
    for field in reader.fields.values():
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        ours = ("general.architecture", "bert.pooling_type")
        if not field.name.startswith("GGUF.") and field.name not in ours:
            writer.add_key_value(field.name, field.contents(), kind, element)
    writer.add_uint32("bert.pooling_type", _RANK)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    head = np.sin(np.arange(_WIDTH, dtype=np.float32)).reshape(1, _WIDTH)
    writer.add_tensor("cls.output.weight", head)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
