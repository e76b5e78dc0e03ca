"""A llama of a few hundred kilobytes whose every number follows from its place."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

HIDDEN, FEED, VOCABULARY, BLOCKS = 256, 512, 320, 2
_BYTES = 256
_SPECIAL = ("<unk>", "<s>", "</s>")


def write_tiny_llama(
    path: Path, kind: type[np.floating] = np.float16, *, tensors_a_part: int = 0
) -> None:
    """A model that loads, decodes and quantises to every type; it knows nothing.

    In parts beside `path`, `-00001-of-….gguf`, when they shall have so many tensors each.
    """
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=tensors_a_part)
    add_sizes(writer, BLOCKS, FEED)
    writer.add_file_type(1 if kind is np.float16 else 0)
    add_tokenizer(writer, VOCABULARY)
    for number, (name, shape) in enumerate(_tensors()):
        flat = name.endswith("norm.weight")
        one = np.ones(shape, np.float32) if flat else numbers(shape, number).astype(kind)
        writer.add_tensor(name, one)
    finish(writer)


def matrix_names() -> list[str]:
    """The weight matrices of the blocks: what an importance matrix has entries for."""
    return [name for name, shape in _tensors() if len(shape) == 2 and name.startswith("blk.")]


def columns(name: str) -> int:
    """How many columns the matrix has."""
    return dict(_tensors())[name][1]


def _tensors() -> list[tuple[str, tuple[int, ...]]]:
    tensors: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (VOCABULARY, HIDDEN))]
    for block in range(BLOCKS):
        shapes = {
            "attn_norm": (HIDDEN,),
            "attn_q": (HIDDEN, HIDDEN),
            "attn_k": (HIDDEN // 2, HIDDEN),
            "attn_v": (HIDDEN // 2, HIDDEN),
            "attn_output": (HIDDEN, HIDDEN),
            "ffn_norm": (HIDDEN,),
            "ffn_gate": (FEED, HIDDEN),
            "ffn_up": (FEED, HIDDEN),
            "ffn_down": (HIDDEN, FEED),
        }
        tensors += [(f"blk.{block}.{name}.weight", shape) for name, shape in shapes.items()]
    return [*tensors, ("output_norm.weight", (HIDDEN,)), ("output.weight", (VOCABULARY, HIDDEN))]


def numbers(shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float32]:
    """Spread like a trained matrix, by integer arithmetic alone: the same on every machine."""
    at = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed << 32)
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (29, 0xC4CEB9FE1A85EC53), (32, 1)):
        at = (at ^ (at >> np.uint64(shift))) * np.uint64(factor)
    halves = [(at >> np.uint64(16 * part)) & np.uint64(0xFFFF) for part in range(4)]
    total: npt.NDArray[np.int64] = np.stack(halves).astype(np.int64).sum(axis=0) - 2 * 0xFFFF
    return np.divide(total.reshape(shape), 2**21, dtype=np.float64).astype(np.float32)


def add_sizes(writer: gguf.GGUFWriter, blocks: int, feed: int) -> None:
    """Of a llama of so many blocks."""
    writer.add_context_length(2048)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(feed)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // 4)
    writer.add_vocab_size(VOCABULARY)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: gguf.GGUFWriter, n_vocab: int) -> None:
    """One token a byte, so that any text has as many tokens as bytes."""
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(_BYTES))]
    tokens += [f"unused{number}" for number in range(n_vocab - len(tokens))]
    kinds = [2, 3, 3] + [6] * _BYTES
    kinds += [1] * (n_vocab - len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * n_vocab)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(False)
