"""Records what llama.cpp's converter and transformers make of tiny models of every family.

Run it with a Python that has torch and transformers, never as part of the tests:

    PYTHONPATH=LLAMA_CPP:LLAMA_CPP/gguf-py python .../convert/record.py [family ...]

It writes `recorded/<family>.json`: the repository (config, names and shapes of its tensors), every
tensor and pair that upstream wrote, and the last logits that transformers calculates.
"""

from __future__ import annotations

import json
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import transformers
from described import described
from families import FAMILIES
from tiny import write_repository
from variants import VARIANTS

HERE = Path(__file__).parent
PROMPT = [5, 17, 66, 20, 57, 9, 80, 33]
LOGITS = 24
ALL = FAMILIES | VARIANTS


def main() -> None:
    for name in sys.argv[1:] or ALL:
        with tempfile.TemporaryDirectory() as folder:
            recorded = record(name, Path(folder) / "tiny")
        text = json.dumps(recorded, separators=(",", ":"), ensure_ascii=True)
        (HERE / "recorded" / f"{name}.json").write_text(text + "\n")
        print(name, len(text))


def record(name: str, path: Path) -> dict[str, Any]:
    family = ALL[name]
    shapes = family.get("tensors") or tensors_of(family, path.with_name("made"))
    repository: dict[str, Any] = {
        "config": family["config"],
        "tensors": shapes,
        **{key: family[key] for key in ("tokenizer", "dtype", "files") if key in family},
    }
    write_repository(path, **repository)
    return {
        "repository": repository,
        "out_type": family.get("out_type", "f16"),
        "upstream": None if family.get("no_upstream") else upstream(path, family),
        "logits": logits(path, family),
    }


def tensors_of(family: dict[str, Any], path: Path) -> dict[str, list[int]]:
    """The tensors as transformers saves them."""
    from safetensors import safe_open

    config = transformers.AutoConfig.for_model(**deepcopy(family["config"]))
    torch.manual_seed(0)
    getattr(transformers, family["config"]["architectures"][0])(config).save_pretrained(path)
    with safe_open(path / "model.safetensors", "np") as file:
        names = sorted(file.keys())
        return {name: list(file.get_slice(name).get_shape()) for name in names}


def upstream(path: Path, family: dict[str, Any]) -> dict[str, Any]:
    """What the converter writes; its list of known vocabularies can't know ours."""
    import gguf
    from conversion import get_model_class
    from conversion.base import ModelBase, ModelType, TextModel, get_model_architecture

    TextModel.get_vocab_base_pre = lambda self, tokenizer: family.get("pre", "gpt-2")
    kinds = {
        "f16": gguf.LlamaFileType.MOSTLY_F16,
        "bf16": gguf.LlamaFileType.MOSTLY_BF16,
        "f32": gguf.LlamaFileType.ALL_F32,
        "auto": gguf.LlamaFileType.GUESSED,
    }
    if family.get("own_tokenizer"):
        transformers.AutoTokenizer.from_pretrained = lambda *_, **__: MakersOwn(path)
    out = path.with_name("out.gguf")
    known = ModelBase.load_hparams
    if family.get("raw_config"):  # this converter does not know what transformers 5 calls it
        config = json.loads((path / "config.json").read_text())
        ModelBase.load_hparams = staticmethod(lambda *_: dict(config))
    try:
        with torch.inference_mode():
            hparams = ModelBase.load_hparams(path, False)
            model = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
            model(path, kinds[family.get("out_type", "f16")], out).write()
    finally:
        ModelBase.load_hparams = known
    found: dict[str, Any] = described(out)
    return found


class MakersOwn:
    """What ChatGLM 3's own code does with its file, as far as the converter asks."""

    ADDED = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
    ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self.sp_model = SentencePieceProcessor(model_file=str(path / "tokenizer.model"))
        self.tokenizer = self
        first = self.sp_model.vocab_size()
        self.added = dict(enumerate((*self.ADDED, *self.ROLES), first))

    def get_vocab(self) -> dict[str, int]:
        return {text: number for number, text in self.added.items()}

    def _convert_id_to_token(self, number: int) -> str:
        if number in self.added:
            return self.added[number]
        is_known = 2 < number < self.sp_model.vocab_size()
        return str(self.sp_model.IdToPiece(number)) if is_known else ""


def logits(path: Path, family: dict[str, Any]) -> list[float]:
    """The first of the last token's; of an encoder, its last state's."""
    if family.get("no_logits"):
        return []
    model_class = getattr(transformers, family["config"]["architectures"][0])
    model = model_class.from_pretrained(path, dtype=torch.float32).eval()
    with torch.inference_mode():
        out = model(torch.tensor([PROMPT]), attention_mask=torch.ones(1, len(PROMPT)).long())
    last = out.logits if hasattr(out, "logits") else out.last_hidden_state
    return [round(float(x), 6) for x in last[0, -1, :LOGITS]]


if __name__ == "__main__":
    main()
