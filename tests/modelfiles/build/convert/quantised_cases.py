"""Weights as quantised repositories store them, each with the numbers that it stands for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np

from tests.modelfiles.build.convert.tiny import Array, Json, weights

BASE = "model.layers.0.self_attn.v_proj"
OUTPUTS, INPUTS, GROUP = 32, 64, 32
CODEBOOK = np.linspace(-1, 1, 16, dtype=np.float32)

Stored = dict[str, tuple[str, Array]]
Case = tuple[Json, Stored, Array]  # quantization_config, what is stored, what it stands for


def codes(name: str, count: int, bits: int) -> Array:
    data = np.frombuffer(hashlib.shake_128(name.encode()).digest(count), np.uint8)
    return data & ((1 << bits) - 1)


def stream(values: Array, bits: int) -> Array:
    """Codes along the first axis as words of 32 bits, bit by bit."""
    words = []
    for column in values.T:
        number = sum(int(value) << bits * place for place, value in enumerate(column))
        count = len(column) * bits // 32
        words.append([number >> 32 * word & 0xFFFFFFFF for word in range(count)])
    return np.array(words, np.uint32).T.copy().view(np.int32)


def gptq(bits: int, act_order: bool, version: str = "gptq") -> Case:
    q = codes("q", INPUTS * OUTPUTS, bits).reshape(INPUTS, OUTPUTS)
    zeros = codes("z", INPUTS // GROUP * OUTPUTS, bits - 1).reshape(-1, OUTPUTS)
    scales = np.abs(weights("s", zeros.shape)) + 0.01
    order = np.arange(INPUTS) // GROUP
    if act_order:
        order = order[np.argsort(codes("o", INPUTS, 8), kind="stable")]
    offset = 0 if version == "gptq_v2" else 1
    scales = scales.astype(np.float16)
    real = (scales[order].astype(np.float32) * (q.astype(int) - zeros[order] - offset)).T
    stored = {
        f"{BASE}.qweight": ("I32", stream(q, bits)),
        f"{BASE}.qzeros": ("I32", stream(zeros.T, bits).T.copy()),
        f"{BASE}.scales": ("F16", scales),
        f"{BASE}.g_idx": ("I32", order.astype(np.int32)),
    }
    config = {"quant_method": "gptq", "bits": bits, "group_size": GROUP}
    return config | {"checkpoint_format": version}, stored, real


def gptq_without_order() -> Case:
    config, stored, real = gptq(4, act_order=False)
    del stored[f"{BASE}.g_idx"]
    return config, stored, real


def awq() -> Case:
    q = codes("q", INPUTS * OUTPUTS, 4).reshape(INPUTS, OUTPUTS)
    zeros = codes("z", INPUTS // GROUP * OUTPUTS, 4).reshape(-1, OUTPUTS)
    scales = (np.abs(weights("s", zeros.shape)) + 0.01).astype(np.float16)
    group = np.arange(INPUTS) // GROUP
    real = (scales[group].astype(np.float32) * (q.astype(int) - zeros[group])).T
    stored = {
        f"{BASE}.qweight": ("I32", awq_words(q)),
        f"{BASE}.qzeros": ("I32", awq_words(zeros)),
        f"{BASE}.scales": ("F16", scales),
    }
    return {"quant_method": "awq", "bits": 4, "version": "gemm"}, stored, real


def awq_words(values: Array) -> Array:
    """Nibble by nibble, output 0, 2, 4, 6, 1, 3, 5, 7 of every eight."""
    words = np.zeros((len(values), values.shape[1] // 8), np.uint32)
    for nibble, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
        words |= values[:, output::8].astype(np.uint32) << 4 * nibble
    return words.view(np.int32)


def nf4(nested: bool) -> Case:
    q = codes("q", OUTPUTS * INPUTS, 4)
    largest = np.abs(weights("a", (OUTPUTS * INPUTS // 64,))) + 0.05
    state: Json = {"quant_type": "nf4", "blocksize": 64, "shape": [OUTPUTS, INPUTS]}
    stored: Stored = {
        f"{BASE}.weight": ("U8", (q[::2] << 4 | q[1::2]).reshape(-1, 1)),
        f"{BASE}.weight.quant_map": ("F32", CODEBOOK),
        f"{BASE}.weight.absmax": ("F32", largest),
    }
    if nested:
        table, inner = weights("t", (256,)), np.array([0.5], np.float32)
        packed = codes("a", len(largest), 8)
        largest = table[packed] * inner[0] + np.float32(0.125)
        state |= {"nested_blocksize": 256, "nested_offset": 0.125}
        stored[f"{BASE}.weight.absmax"] = ("U8", packed)
        stored[f"{BASE}.weight.nested_absmax"] = ("F32", inner)
        stored[f"{BASE}.weight.nested_quant_map"] = ("F32", table)
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    stored[f"{BASE}.weight.quant_state.bitsandbytes__nf4"] = ("U8", text)
    real = (CODEBOOK[q] * np.repeat(largest, 64)).reshape(OUTPUTS, INPUTS)
    return {"quant_method": "bitsandbytes", "load_in_4bit": True}, stored, real


def int8() -> Case:
    q = codes("q", OUTPUTS * INPUTS, 8).view(np.int8).reshape(OUTPUTS, INPUTS)
    scale = np.abs(weights("s", (OUTPUTS,))) + 1
    stored: Stored = {
        f"{BASE}.weight": ("I8", q),
        f"{BASE}.SCB": ("F32", scale),
        f"{BASE}.weight_format": ("U8", np.zeros((), np.uint8)),
    }
    real = q.astype(np.float32) * (scale[:, None] / np.float32(127))
    return {"quant_method": "bitsandbytes", "load_in_8bit": True}, stored, real


def fp8_numbers(raw: Array) -> Array:
    import ml_dtypes

    found: Array = raw.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    return found


def fp8_codes() -> Array:
    raw = codes("q", OUTPUTS * INPUTS, 8).reshape(OUTPUTS, INPUTS)
    return np.where(raw & 0x7F == 0x7F, 0, raw).astype(np.uint8)  # no NaN


def fp8_blocks() -> Case:
    raw, block = fp8_codes(), [16, 48]
    scale = weights("s", (2, 2)) + 1
    wide = np.repeat(np.repeat(scale, 16, 0), 48, 1)[:OUTPUTS, :INPUTS]
    stored: Stored = {
        f"{BASE}.weight": ("F8_E4M3", raw),
        f"{BASE}.weight_scale_inv": ("F32", scale),
    }
    config = {"quant_method": "fp8", "weight_block_size": block}
    return config, stored, fp8_numbers(raw) * wide


def nf4_as_bfloat16() -> Case:
    """As training in shards wants it: the bytes have another type, not other values."""
    config, stored, real = nf4(nested=False)
    packed = stored[f"{BASE}.weight"][1]
    stored[f"{BASE}.weight"] = ("I16", packed.reshape(-1).view(np.int16).reshape(-1, 1))
    return config, stored, real


def fp8_rows(method: str) -> Case:
    raw, scale = fp8_codes(), weights("s", (OUTPUTS, 1)) + 1
    stored: Stored = {
        f"{BASE}.weight": ("F8_E4M3", raw),
        f"{BASE}.weight_scale": ("F32", scale),
        f"{BASE}.input_scale": ("F32", np.ones((), np.float32)),
    }
    config: Json = {"quant_method": method}
    if method == "modelopt":
        config |= {"quant_algo": "FP8"}
    if method == "compressed-tensors":
        scheme = {"num_bits": 8, "type": "float", "strategy": "channel"}
        config |= {"format": "float-quantized", "config_groups": {"group_0": {"weights": scheme}}}
    return config, stored, fp8_numbers(raw) * scale


def compressed_packed(symmetric: bool) -> Case:
    q = codes("q", OUTPUTS * INPUTS, 4).reshape(OUTPUTS, INPUTS)
    scale = np.abs(weights("s", (OUTPUTS, INPUTS // GROUP))) + 0.01
    stored: Stored = {
        f"{BASE}.weight_packed": ("I32", stream(q.T, 4).T.copy()),
        f"{BASE}.weight_scale": ("F32", scale),
        f"{BASE}.weight_shape": ("I64", np.array([OUTPUTS, INPUTS])),
    }
    zero: Array = np.full(scale.shape, 8)
    if not symmetric:
        zero = codes("z", scale.size, 4).reshape(scale.shape)
        stored[f"{BASE}.weight_zero_point"] = ("I32", stream(zero, 4))
    group = np.arange(INPUTS) // GROUP
    real = (q.astype(int) - zero[:, group]).astype(np.float32) * scale[:, group]
    scheme = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP}
    config = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"weights": scheme}},
    }
    return config, stored, real


def compressed_three_bits(dense: bool) -> Case:
    """Newer versions leave no gaps, older ones two bits in every word; another group is there."""
    q = codes("q", OUTPUTS * INPUTS, 3).reshape(OUTPUTS, INPUTS)
    zero = codes("z", OUTPUTS * (INPUTS // GROUP), 3).reshape(OUTPUTS, -1)
    scale = np.abs(weights("s", zero.shape)) + 0.01
    packed = stream if dense else words
    stored: Stored = {
        f"{BASE}.weight_packed": ("I32", packed(q.T, 3).T.copy()),
        f"{BASE}.weight_scale": ("F32", scale),
        f"{BASE}.weight_shape": ("I64", np.array([OUTPUTS, INPUTS])),
        f"{BASE}.weight_zero_point": ("I32", packed(zero, 3)),
    }
    group = np.arange(INPUTS) // GROUP
    real = (q.astype(int) - zero[:, group]).astype(np.float32) * scale[:, group]
    whole = {"num_bits": 8, "type": "float", "strategy": "channel", "group_size": None}
    scheme = {"num_bits": 3, "type": "int", "strategy": "group", "group_size": GROUP}
    config = {
        "quant_method": "compressed-tensors",
        "format": "mixed-precision",
        "config_groups": {
            "group_0": {"weights": whole, "format": "float-quantized"},
            "group_1": {"weights": scheme, "format": "pack-quantized"},
        },
    }
    return config, stored, real


def words(values: Array, bits: int) -> Array:
    """Codes along the first axis, as many in a word of 32 bits as fit whole."""
    count = 32 // bits
    filled = np.pad(values, ((0, -len(values) % count), (0, 0))).astype(np.uint32)
    shifts = np.arange(count, dtype=np.uint32)[:, None] * bits
    parts = filled.reshape(-1, count, filled.shape[1]) << shifts
    packed: Array = np.bitwise_or.reduce(parts, axis=1).view(np.int32)
    return packed


FLOAT4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def float4(kind: str) -> Case:
    """NVFP4 in groups of 16 with FP8 scales, MXFP4 in groups of 32 with exponents."""
    q, size = codes("q", OUTPUTS * INPUTS, 4).reshape(OUTPUTS, INPUTS), 32 if kind == "mx" else 16
    raw = 120 + codes("s", OUTPUTS * INPUTS // size, 3).reshape(OUTPUTS, -1)
    common = np.array([0.75], np.float32)
    if kind == "mx":
        scale, scales = ("U8", raw), np.ldexp(np.float32(1), raw.astype(int) - 127)
    else:
        raw = raw - 60
        scale = ("F8_E4M3", raw)
        scales = fp8_numbers(raw) / common if kind == "nv" else fp8_numbers(raw) * common
    own = "weight" if kind == "modelopt" else "weight_packed"
    stored: Stored = {
        f"{BASE}.{own}": ("U8", q[:, ::2] | q[:, 1::2] << 4),
        f"{BASE}.weight_scale": scale,
    }
    config: Json = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    if kind == "modelopt":
        stored[f"{BASE}.weight_scale_2"] = ("F32", common)
    else:
        scheme = {"num_bits": 4, "type": "float", "group_size": size}
        groups = {"group_0": {"weights": scheme}}
        config = {"quant_method": "compressed-tensors", "format": f"{kind}fp4-pack-quantized"}
        config |= {"config_groups": groups}
    if kind == "nv":
        stored[f"{BASE}.weight_global_scale"] = ("F32", common)
    stored[f"{BASE}.input_global_scale"] = ("F32", common)
    return config, stored, FLOAT4[q] * np.repeat(scales, size, 1)


def mxfp8() -> Case:
    raw = fp8_codes()
    scale = 124 + codes("s", OUTPUTS * INPUTS // 32, 3).reshape(OUTPUTS, -1)
    stored: Stored = {
        f"{BASE}.weight": ("F8_E4M3", raw),
        f"{BASE}.weight_scale": ("U8", scale),
    }
    scheme = {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32}
    config = {
        "quant_method": "compressed-tensors",
        "format": "mxfp8-quantized",
        "config_groups": {"group_0": {"weights": scheme}},
    }
    wide = np.ldexp(np.float32(1), np.repeat(scale.astype(int) - 127, 32, 1))
    return config, stored, fp8_numbers(raw) * wide


CASES: dict[str, Callable[[], Case]] = {
    "gptq 8": lambda: gptq(8, act_order=False),
    "gptq 4": lambda: gptq(4, act_order=False),
    "gptq 4, act-order": lambda: gptq(4, act_order=True),
    "gptq 4, version 2": lambda: gptq(4, act_order=True, version="gptq_v2"),
    "gptq 4, no g_idx": gptq_without_order,
    "gptq 3": lambda: gptq(3, act_order=False),
    "gptq 3, act-order": lambda: gptq(3, act_order=True),
    "gptq 2": lambda: gptq(2, act_order=False),
    "awq": awq,
    "bitsandbytes nf4": lambda: nf4(nested=False),
    "bitsandbytes nf4, nested": lambda: nf4(nested=True),
    "bitsandbytes nf4, as 16 bits": nf4_as_bfloat16,
    "bitsandbytes int8": int8,
    "fp8 in blocks": fp8_blocks,
    "fp8 in rows": lambda: fp8_rows("fp8"),
    "fp8 of ModelOpt": lambda: fp8_rows("modelopt"),
    "compressed fp8": lambda: fp8_rows("compressed-tensors"),
    "compressed int4": lambda: compressed_packed(symmetric=True),
    "compressed int4, asymmetric": lambda: compressed_packed(symmetric=False),
    "compressed int3, one of two groups": lambda: compressed_three_bits(dense=True),
    "compressed int3, older": lambda: compressed_three_bits(dense=False),
    "compressed NVFP4": lambda: float4("nv"),
    "compressed MXFP4": lambda: float4("mx"),
    "compressed MXFP8": mxfp8,
    "NVFP4 of ModelOpt": lambda: float4("modelopt"),
}
