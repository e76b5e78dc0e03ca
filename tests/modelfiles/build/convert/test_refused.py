"""What is wrong with a repository is said in one typed error; nothing crashes or is guessed."""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from qm.modelfiles.build.convert import OutType, architecture, convert
from qm.modelfiles.build.convert.errors import (
    BadConfig,
    BadTensor,
    CannotRun,
    ConversionError,
    MissingTokenizer,
    MissingWeights,
    PickleRefused,
    Truncated,
    UnknownArchitecture,
    UnknownTokenizer,
)

from tests.modelfiles.build.convert.tiny import Json, weights, write_repository, write_safetensors

RECORDED = Path(__file__).parent / "recorded"
INDEX = "model.safetensors.index.json"

Change = Callable[[Path], object]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A tiny Llama 3, whole."""
    return make(tmp_path / "tiny", "llama3")


def make(path: Path, family: str) -> Path:
    write_repository(path, **json.loads((RECORDED / f"{family}.json").read_text())["repository"])
    return path


def converted(path: Path, out_type: OutType = "f16") -> bytes:
    out = io.BytesIO()
    convert(path, out, out_type=out_type, name="tiny")
    return out.getvalue()


def edit(file: str, **values: object) -> Change:
    """Sets values of a JSON file; None takes the key away."""

    def change(path: Path) -> None:
        content: Json = json.loads((path / file).read_text()) | values
        kept = {key: value for key, value in content.items() if value is not None}
        (path / file).write_text(json.dumps(kept))

    return change


def remove(file: str) -> Change:
    return lambda path: (path / file).unlink()


def write(file: str, data: bytes) -> Change:
    return lambda path: (path / file).write_bytes(data)


def cut(file: str, count: int) -> Change:
    """Takes the last bytes of a file away."""
    return lambda path: (path / file).write_bytes((path / file).read_bytes()[:-count])


def header_length(length: int) -> Change:
    def change(path: Path) -> None:
        file = path / "model.safetensors"
        file.write_bytes(struct.pack("<Q", length) + file.read_bytes()[8:])

    return change


def header(edit_header: Callable[[Json], None]) -> Change:
    """Changes the header of the weights, its length included."""

    def change(path: Path) -> None:
        file = path / "model.safetensors"
        data = file.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        content = json.loads(data[8 : 8 + length])
        edit_header(content)
        text = json.dumps(content).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return change


def drop(name: str) -> Change:
    def edit_header(content: Json) -> None:
        del content[name]

    return header(edit_header)


def without_output(path: Path) -> None:
    edit("config.json", tie_word_embeddings=False)(path)
    drop("lm_head.weight")(path)


def reshape(name: str, shape: list[int]) -> Change:
    def edit_header(content: Json) -> None:
        content[name]["shape"] = shape

    return header(edit_header)


def offsets(name: str, span: list[int]) -> Change:
    def edit_header(content: Json) -> None:
        content[name]["data_offsets"] = span

    return header(edit_header)


def poison(number: float) -> Change:
    """The first weight of the output's matrix becomes `number`."""

    def change(path: Path) -> None:
        file = path / "model.safetensors"
        data = file.read_bytes()
        start = 8 + struct.unpack("<Q", data[:8])[0]
        file.write_bytes(data[:start] + np.float32(number).tobytes() + data[start + 4 :])

    return change


def pickled(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def index(mapping: object) -> Change:
    return write(INDEX, json.dumps({"weight_map": mapping}).encode())


UP = "model.layers.1.mlp.up_proj.weight"
CASES: dict[str, tuple[Change, type[ConversionError], str]] = {
    "no config": (remove("config.json"), BadConfig, "no config.json"),
    "config is no JSON": (write("config.json", b"{"), BadConfig, "not JSON"),
    "config is a list": (write("config.json", b"[]"), BadConfig, "not a JSON object"),
    "nested without end": (write("config.json", b'{"a":' * 9999), BadConfig, "not JSON"),
    "no architecture": (edit("config.json", architectures=None), BadConfig, "no architecture"),
    "architectures empty": (edit("config.json", architectures=[]), BadConfig, "no architecture"),
    "no hidden size": (edit("config.json", hidden_size=None), BadConfig, "lacks hidden_size"),
    "heads as text": (edit("config.json", num_attention_heads="4"), BadConfig, "whole number"),
    "no heads": (edit("config.json", num_attention_heads=0), BadConfig, "at least 1"),
    "too many layers": (edit("config.json", num_hidden_layers=10**6), BadConfig, "more than 512"),
    "more layers than weights": (
        edit("config.json", num_hidden_layers=3),
        MissingWeights,
        "layer 2 of 3",
    ),
    "fewer layers than weights": (edit("config.json", num_hidden_layers=1), BadTensor, "layers.1"),
    "theta is no number": (edit("config.json", rope_theta="x"), BadConfig, "want a number"),
    "heads that don't fit": (edit("config.json", num_attention_heads=7), BadTensor, "7 heads"),
    "unknown": (
        edit("config.json", architectures=["FooForCausalLM"]),
        UnknownArchitecture,
        r"qm\[convert\]",
    ),
    "never": (edit("config.json", architectures=["OPTForCausalLM"]), CannotRun, "llama.cpp has no"),
    "no tokenizer": (remove("tokenizer.json"), MissingTokenizer, "no tokenizer.json"),
    "tokenizer is no JSON": (write("tokenizer.json", b"x"), BadConfig, "not JSON"),
    "tokenizer without model": (write("tokenizer.json", b"{}"), BadConfig, "tokenizer.json"),
    "tokenizer cuts strangely": (
        edit("tokenizer.json", pre_tokenizer={"type": "UnicodeScripts"}),
        UnknownTokenizer,
        "unicodescripts",
    ),
    "vocabulary too small": (edit("config.json", vocab_size=10), BadConfig, "don't belong"),
    "embedding too small": (edit("config.json", vocab_size=999), BadTensor, "384 rows"),
    "no weights": (remove("model.safetensors"), MissingWeights, "no .*safetensors"),
    "pickle": (pickled, PickleRefused, "allow-pickle"),
    "cut short": (cut("model.safetensors", 1), Truncated, "cut short"),
    "empty": (write("model.safetensors", b""), Truncated, "cut short"),
    "header longer than the file": (header_length(2**63), Truncated, "announces a header"),
    "header shorter than it is": (header_length(20), BadTensor, "header"),
    "tensor missing": (drop(UP), MissingWeights, "layer 1 lacks 'ffn_up.weight'"),
    "embedding missing": (drop("model.embed_tokens.weight"), MissingWeights, "no token embedding"),
    "output missing": (without_output, MissingWeights, "lm_head.weight"),
    "wrong shape": (reshape(UP, [64, 128]), BadTensor, "ffn_up.weight"),
    "shape that lies": (reshape(UP, [128, 65]), BadTensor, "needs"),
    "negative shape": (reshape(UP, [-128, -64]), BadTensor, "impossible shape"),
    "huge shape": (reshape(UP, [2**40, 2**40]), BadTensor, "needs"),
    "offsets beyond the end": (offsets(UP, [2**40, 2**40 + 32768]), Truncated, "cut short"),
    "offsets backwards": (offsets(UP, [-32768, 0]), BadTensor, "has"),
    "offsets of another tensor": (offsets(UP, [0, 32768]), BadTensor, "claim the same bytes"),
    "NaN": (poison(float("nan")), BadTensor, "NaN"),
    "infinite": (poison(float("inf")), BadTensor, "NaN or a number"),
    "too large for the type": (poison(1e6), BadTensor, "F16"),
    "index names a missing file": (
        index({"a": "model-00001-of-00002.safetensors"}),
        MissingWeights,
        "not there",
    ),
    "index climbs out": (index({"a": "../other/model.safetensors"}), BadConfig, "no file of this"),
    "index promises more": (
        index({"a": "model.safetensors"}),
        Truncated,
        "lack 'a'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_says_what_is_wrong(case: str, tiny: Path) -> None:
    """The error has a type of its own, names the culprit, and nothing half written remains."""
    change, error, words = CASES[case]
    change(tiny)
    with pytest.raises(error, match=words):
        converted(tiny)


def test_layers_without_rotations_are_those_that_llama_cpp_takes(tmp_path: Path) -> None:
    """Every fourth of SmolLM3, however it is said; with others it would calculate otherwise."""
    repository = make(tmp_path / "tiny", "smollm3")
    every = {"no_rope_layers": None, "no_rope_layer_interval": None}
    for usual in ({"no_rope_layer_interval": 4}, {"no_rope_layers": [1, 1, 1, 0]}):
        edit("config.json", **every | usual)(repository)
        converted(repository)
    for other in ({"no_rope_layer_interval": 2}, {"no_rope_layers": [1, 0, 1, 1]}):
        edit("config.json", **every | other)(repository)
        with pytest.raises(BadConfig, match="other rotations than every 4th"):
            converted(repository)


@pytest.mark.parametrize("case", ["no config", "no architecture", "unknown", "never"])
def test_architecture_refuses_likewise(case: str, tiny: Path) -> None:
    """Whoever only asks for the architecture learns the same."""
    change, error, words = CASES[case]
    change(tiny)
    with pytest.raises(error, match=words):
        architecture(tiny)


def test_a_gguf_beside_the_weights_does_not_matter(tiny: Path) -> None:
    """Repositories that have both are converted from their safetensors."""
    whole = converted(tiny)
    (tiny / "model.gguf").write_bytes(b"GGUF")
    assert converted(tiny) == whole


def test_minus_one_stands_for_no_token(tiny: Path) -> None:
    """As many old repositories of Llama say it for the padding."""
    edit("config.json", pad_token_id=-1)(tiny)
    assert b"padding_token_id" not in converted(tiny)
    edit("config.json", pad_token_id=0)(tiny)
    assert b"padding_token_id" in converted(tiny)


def test_shards_give_the_same_tensors(tiny: Path) -> None:
    """Where a tensor lies decides its place in the file, and nothing else."""
    shapes = json.loads((RECORDED / "llama3.json").read_text())["repository"]["tensors"]
    whole = converted(tiny)
    (tiny / "model.safetensors").unlink()
    names = sorted(shapes)
    parts = {"model-00001-of-00002.safetensors": names[:9]}
    parts["model-00002-of-00002.safetensors"] = names[9:]
    for file, part in parts.items():
        write_safetensors(tiny / file, {n: ("F32", weights(n, shapes[n])) for n in part})
    mapping = {name: file for file, part in parts.items() for name in part}
    (tiny / INDEX).write_text(json.dumps({"weight_map": mapping}))
    assert converted(tiny) == whole


def test_damage_anywhere_is_a_typed_error_or_none(tmp_path: Path) -> None:
    """Bytes changed at random in any file: a GGUF or a ConversionError, never another exception."""
    chance = random.Random(6)
    for family in ("llama2", "llama3", "bert", "xlm_roberta", "deepseek2"):
        path = make(tmp_path / family, family)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        whole = {file: file.read_bytes() for file in files}
        for _ in range(25):
            file = chance.choice(files)
            data = bytearray(whole[file])
            for _ in range(chance.choice((1, 1, 3))):
                data[chance.randrange(min(len(data), 4000))] = chance.randrange(256)
            file.write_bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
            try:
                converted(path)
            except ConversionError as error:
                assert str(error)
            file.write_bytes(whole[file])


ODD: list[object] = [
    None,
    -1,
    0,
    1 << 40,
    1.5,
    float("1e300"),
    True,
    "x",
    "",
    [],
    [1],
    {},
    {"a": 1},
]


def places(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The ways to all values in a JSON document."""
    children = value.items() if isinstance(value, dict) else []
    children = list(enumerate(value))[:6] if isinstance(value, list) else list(children)[:40]
    return [at, *(place for key, child in children for place in places(child, (*at, key)))]


def test_odd_values_anywhere_are_a_typed_error_or_none(tmp_path: Path) -> None:
    """The same for values of other types and sizes in the JSON files."""
    chance = random.Random(6)
    for family in ("llama2", "llama3", "phi3_long", "bert", "xlm_roberta", "deepseek2", "gemma3"):
        path = make(tmp_path / family, family)
        for _ in range(25):
            file = chance.choice(sorted(path.glob("*.json")))
            text = file.read_text()
            document = json.loads(text)
            *way, last = chance.choice(places(document)[1:])
            holder = document
            for key in way:
                holder = holder[key]
            holder[last] = chance.choice(ODD)
            file.write_text(json.dumps(document))
            try:
                converted(path)
            except ConversionError as error:
                assert str(error)
            file.write_text(text)
