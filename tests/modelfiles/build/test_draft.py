"""Models that another guesses for: how DRAFT becomes a layer, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from qm.modelfiles.build.create import create
from qm.modelfiles.build.draft import DraftUnfit
from qm.modelfiles.build.weights import NothingToQuantize
from qm.modelfiles.create_request import from_create_request, to_create_request
from qm.modelfiles.model import Model, load_model
from qm.modelfiles.parser import parse
from qm.modelfiles.show import modelfile_text
from qm.modelfiles.spec import from_modelfile
from qm.store.errors import QmError
from qm.store.gguf import read_header
from qm.store.image import DRAFT_TYPE, MODEL_TYPE
from qm.store.manifests import ModelNotFound
from qm.store.name import Name
from qm.store.store import Store

from .tiny_llama import write_tiny_llama

WORDS = ["<s>", "a", "b", "c"]


@dataclass(frozen=True, slots=True)
class Maker:
    """Creates models as `/api/create` does."""

    store: Store
    make_gguf: Callable[..., str]

    def __call__(self, name: str, **body: object) -> Model:
        spec = from_create_request(body)
        create(self.store, Name.parse(name), spec, lambda _: None)
        return load_model(self.store, Name.parse(name))

    def gguf(self, size: int, words: list[str], **more: object) -> str:
        return self.make_gguf(
            size=size, tokenizer__ggml__model="gpt2", tokenizer__ggml__tokens=words, **more
        )


@pytest.fixture
def made(store: Store, make_gguf: Callable[..., str]) -> Maker:
    return Maker(store, make_gguf)


def test_a_file_or_a_model_can_be_the_draft(made: Maker, store: Store) -> None:
    """Either way its weights are one layer of the new model, of the type that Ollama uses."""
    large, small = made.gguf(96, WORDS), made.gguf(32, WORDS)
    by_file = made("one", files={"l.gguf": large}, draft_files={"s.gguf": small})
    made("small", files={"s.gguf": small})
    by_name = made("two", files={"l.gguf": large}, draft="small")
    assert by_file.draft == by_name.draft == store.blobs.path(small)
    manifest = store.manifests.read(by_file.name).manifest
    assert [layer.media_type for layer in manifest.layers] == [MODEL_TYPE, DRAFT_TYPE]


def test_what_is_printed_builds_the_same_again(made: Maker, store: Store) -> None:
    """Layer for layer."""
    files = {"l.gguf": made.gguf(96, WORDS)}
    model = made("one", files=files, draft_files={"s.gguf": made.gguf(32, WORDS)})
    text = modelfile_text(model)
    assert f"DRAFT {model.draft}\n" in text
    spec = from_modelfile(parse(text))
    paths = (*model.weights, *([model.draft] if model.draft else []))
    digests = {str(path): store.blobs.adopt(path).digest for path in paths}
    made("again", **json.loads(json.dumps(to_create_request(spec, digests))))
    first, again = (store.manifests.read(Name.parse(name)).manifest for name in ("one", "again"))
    assert again.layers == first.layers


def test_a_variant_keeps_the_draft_or_takes_another(made: Maker, store: Store) -> None:
    """There is one at most."""
    small, other = made.gguf(32, WORDS), made.gguf(64, WORDS)
    made("one", files={"l.gguf": made.gguf(96, WORDS)}, draft_files={"s.gguf": small})
    assert made("kept", **{"from": "one", "system": "s"}).draft == store.blobs.path(small)
    changed = made("changed", **{"from": "one"}, draft_files={"o.gguf": other})
    assert changed.draft == store.blobs.path(other)
    assert len(store.manifests.read(changed.name).manifest.layers_of(DRAFT_TYPE)) == 1


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        (["<s>", "a", "x", "c"], {}, "token 2 is 'x', the model's is 'b'"),
        (["<s>"] * 200, {}, "has 200 tokens, the model 4"),
        (WORDS, {"tokenizer__ggml__eos_token_id": 3}, "eos_token_id is 3"),
    ],
)
def test_another_vocabulary_is_refused(
    made: Maker, words: list[str], more: dict[str, object], message: str
) -> None:
    """At the create, with the first difference."""
    body = {"files": {"l.gguf": made.gguf(96, WORDS)}}
    with pytest.raises(DraftUnfit, match=message):
        made("one", **body, draft_files={"s.gguf": made.gguf(32, words, **more)})


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"draft": "nowhere"}, ModelNotFound),
        ({"draft_quantize": "Q8_0"}, NothingToQuantize),
        ({"draft": "hf.co/org/repo"}, QmError),
        ({"draft": "x", "draft_quantize": "Q9"}, QmError),
    ],
)
def test_a_draft_that_cannot_be_is_refused(
    made: Maker, body: dict[str, object], error: type[Exception]
) -> None:
    """Nothing is registered."""
    files = {"l.gguf": made.gguf(96, WORDS)}
    with pytest.raises(error):
        made("one", files=files, **body)
    assert made.store.manifests.list() == ([], [])


def test_a_draft_is_quantised_by_itself(made: Maker, store: Store, tmp_path: Path) -> None:
    """The model's own weights stay what they are."""
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    digest = store.blobs.adopt(path).digest
    body = {"files": {"t.gguf": digest}, "draft_files": {"t.gguf": digest}}
    model = made("one", **body, draft_quantize="Q8_0")
    assert model.weights_digest == digest
    assert model.draft is not None
    types = {tensor.type for tensor in read_header(model.draft).tensors}
    assert types == {"F32", "Q8_0"}
