"""Creating models in a real store: what is shared, what is refused, what a failure leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest
from qm.modelfiles.build.create import WrongFiles, create
from qm.modelfiles.build.weights import NothingToQuantize, is_computed
from qm.modelfiles.create_request import from_create_request
from qm.modelfiles.gotemplate.errors import TemplateSyntaxError
from qm.modelfiles.model import Model, ModelBroken, load_model
from qm.modelfiles.parser import parse
from qm.modelfiles.quantization import UnknownType
from qm.modelfiles.spec import NotYet, Turn, from_modelfile
from qm.store.blobs import BlobMissing
from qm.store.errors import QmError
from qm.store.gguf import GgufInvalid
from qm.store.image import CONFIG_TYPE, MODEL_TYPE, PARAMS_TYPE, Descriptor, Manifest
from qm.store.layout import InvalidDigest
from qm.store.manifests import ModelNotFound
from qm.store.name import InvalidName, Name

if TYPE_CHECKING:
    from pathlib import Path

    from qm.store.store import Store

Build = Callable[..., Model]


@pytest.fixture
def build(store: Store) -> Build:
    """`build(name, **body)` creates a model as `/api/create` does and loads it."""

    def run(name: str, **body: object) -> Model:
        create(store, Name.parse(name), from_create_request(renamed(body)), lambda _: None)
        return load_model(store, Name.parse(name))

    return run


def renamed(body: Mapping[str, object]) -> dict[str, object]:
    """`from` is no name that Python lets a keyword argument have."""
    return {"from" if key == "base" else key: value for key, value in body.items()}


def statuses(store: Store, name: str, **body: object) -> list[object]:
    """The progress of a create."""
    steps: list[dict[str, object]] = []
    create(store, Name.parse(name), from_create_request(renamed(body)), steps.append)
    return [step["status"] for step in steps]


def layers(model: Model, store: Store) -> tuple[Descriptor, ...]:
    return store.manifests.read(model.name).manifest.layers


def test_from_the_real_gguf(store: Store, build: Build, smollm2_gguf: Path) -> None:
    """Loaded again it says what Ollama says about the same file."""
    digest = store.blobs.adopt(smollm2_gguf).digest
    model = build("smol", files={"smol.gguf": digest})
    assert model.weights == (store.blobs.path(digest),)
    assert model.weights_digest == digest
    assert model.details.family == "llama"
    assert model.details.families == ("llama",)
    assert model.details.parameter_size == "134.52M"
    assert model.details.quantization_level == "Q4_1"
    assert model.details.context_length == 8192
    assert model.capabilities == ("completion",)
    assert model.template is not None
    assert model.template.text == model.header.chat_template
    assert model.own_template is None


def test_progress_is_worded_as_clients_know_it(store: Store, make_gguf: Callable[..., str]) -> None:
    """Parsing, then a line for each layer, then the manifest."""
    digest = make_gguf()
    first = statuses(store, "a", files={"a.gguf": digest}, system="s")
    assert first[0] == "parsing GGUF"
    assert first[1] == f"using existing layer {digest}"
    assert str(first[2]).startswith("creating new layer sha256:")
    assert first[3] == "writing manifest"
    again = statuses(store, "b", base="a", system="s")
    assert again[0] == f"using existing layer {digest}"
    assert str(again[1]).startswith("using existing layer sha256:")


def test_everything_that_can_be_said(build: Build, make_gguf: Callable[..., str]) -> None:
    """Each field of the request is there when the model is loaded."""
    model = build(
        "a",
        files={"a.gguf": make_gguf()},
        template="{{ .Prompt }}{{ .Suffix }}",
        system="You are a pirate.",
        parameters={"stop": ["END"], "temperature": 0.5},
        messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Arr"}],
        license=["one", "two"],
        requires="0.14.0",
    )
    assert model.own_template == model.template
    assert model.template is not None
    assert model.template.text == "{{ .Prompt }}{{ .Suffix }}"
    assert model.capabilities == ("completion", "insert")
    assert model.system == "You are a pirate."
    assert model.parameters == {"stop": ["END"], "temperature": 0.5}
    assert model.messages == (Turn("user", "hi"), Turn("assistant", "Arr"))
    assert model.licenses == ("one", "two")
    assert model.config.requires == "0.14.0"


def test_a_variant_shares_its_base_s_blobs(
    store: Store, build: Build, make_gguf: Callable[..., str]
) -> None:
    """Only what changes is new: parameters merge, licences add up, texts are replaced."""
    base = build(
        "base",
        files={"a.gguf": make_gguf()},
        template="{{ .Prompt }}",
        system="old",
        parameters={"stop": ["a"], "top_k": 1},
        license="one",
        messages=[{"role": "user", "content": "old"}],
    )
    before = {blob.digest for blob in store.blobs.list()}
    variant = build(
        "variant",
        base="Base",
        system="new",
        parameters={"top_k": 2, "seed": 3},
        license=["one", "two"],
        messages=[{"role": "user", "content": "new"}],
    )
    assert variant.weights == base.weights
    assert variant.template == base.template
    assert variant.system == "new"
    assert variant.parameters == {"stop": ["a"], "top_k": 2, "seed": 3}
    assert variant.licenses == ("one", "two")
    assert variant.messages == (Turn("user", "new"),)
    assert variant.details.parent_model == "base:latest"
    new = {blob.digest for blob in store.blobs.list()} - before
    assert len(new) == 5  # system, parameters, messages, second licence, config


def test_a_base_s_texts_can_be_taken_away(build: Build, make_gguf: Callable[..., str]) -> None:
    """`SYSTEM ""` in a Modelfile arrives as `clear`."""
    build("base", files={"a.gguf": make_gguf()}, system="old", template="{{ .Tools }}")
    variant = build("variant", base="base", clear=["system", "template"])
    assert variant.system == ""
    assert variant.template is None
    assert variant.capabilities == ("completion",)


def test_the_same_request_gives_the_same_manifest(
    store: Store, build: Build, make_gguf: Callable[..., str]
) -> None:
    """Whatever order it was told in."""
    digest = make_gguf()
    first = build("a", files={"a.gguf": digest}, parameters={"seed": 1, "top_k": 2}, system="s")
    second = build("b", system="s", parameters={"top_k": 2, "seed": 1}, files={"b.gguf": digest})
    assert first.digest == second.digest


def test_a_model_can_be_rebuilt_under_its_own_name(
    build: Build, make_gguf: Callable[..., str]
) -> None:
    """FROM names the model that is replaced."""
    build("a", files={"a.gguf": make_gguf()}, system="one")
    assert build("a", base="a", system="two").system == "two"


def test_the_parts_of_a_split_model_come_in_order(
    store: Store, build: Build, make_gguf: Callable[..., str]
) -> None:
    """However they were listed."""
    parts = [
        make_gguf(split__no=number, split__count=3, size=32 * (number + 1)) for number in range(3)
    ]
    model = build("a", files={"c": parts[2], "a": parts[0], "b": parts[1]})
    assert model.weights == tuple(store.blobs.path(part) for part in parts)
    assert model.details.parameter_size == str(32 + 64 + 96)


def test_projectors_and_adapters_find_their_place(
    store: Store, build: Build, make_gguf: Callable[..., str]
) -> None:
    """Told apart by what they say about themselves, also when they come later."""
    weights, projector = make_gguf(), make_gguf(architecture="clip", size=64)
    adapter = make_gguf(general__type="adapter", size=96)
    build("plain", files={"a": weights})
    model = build("a", base="plain", files={"p": projector}, adapters={"l": adapter})
    assert model.projectors == (store.blobs.path(projector),)
    assert model.adapters == (store.blobs.path(adapter),)
    assert model.capabilities == ("completion", "vision")
    assert model.details.families == ("llama", "clip")
    assert layers(build("b", files={"p": projector, "a": weights}), store)[0].digest == weights


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ({"base": "nosuch"}, ModelNotFound, "model 'nosuch' not found"),
        ({"base": "../etc/passwd"}, InvalidName, "invalid model name"),
        ({"base": "hf.co/org/repo"}, NotYet, "FROM hf.co/org/repo is not supported yet"),
        ({"base": "hf:org/repo"}, NotYet, "FROM hf:org/repo is not supported yet"),
        ({"files": {"a": "123"}}, InvalidDigest, "invalid digest"),
        ({"files": {"a": "sha256:../../etc/passwd"}}, InvalidDigest, "invalid digest"),
        ({"files": {"a": "sha256:" + "1" * 64}}, BlobMissing, "not found"),
        ({"base": "base", "imatrix": "auto"}, NothingToQuantize, "IMATRIX has no effect"),
        ({"base": "base", "quantize": "Q4_KM"}, UnknownType, "did you mean Q4_K_M"),
        ({"base": "base", "template": "{% do x() %}"}, TemplateSyntaxError, "unknown tag 'do'"),
        ({"base": "base", "template": "{% if %}"}, TemplateSyntaxError, "template: :1: "),
        ({"base": "base", "template": "a\n{% for x in y %}"}, TemplateSyntaxError, "template: :2"),
    ],
)
def test_what_cannot_be_built_is_refused(
    store: Store,
    build: Build,
    make_gguf: Callable[..., str],
    body: dict[str, object],
    error: type[QmError],
    words: str,
) -> None:
    """With the reason; no manifest appears, and no lease stays."""
    build("base", files={"a": make_gguf()})
    with pytest.raises(error) as caught:
        build("new", **body)
    assert words in str(caught.value)
    assert [each.name.model for each in store.manifests.list()[0]] == ["base"]
    assert list(store.layout.leases.iterdir()) == []


def test_files_that_are_no_model(store: Store, build: Build, make_gguf: Callable[..., str]) -> None:
    """Two models, half of one, only additions, the wrong adapter, no GGUF at all."""
    first, second = make_gguf(), make_gguf(size=64)
    half = make_gguf(split__no=0, split__count=2, size=96)
    projector = make_gguf(architecture="clip")
    foreign = make_gguf(architecture="qwen2", general__type="adapter")
    build("base", files={"a": first})
    with pytest.raises(WrongFiles, match="not the parts of one model"):
        build("new", files={"a": first, "b": second})
    with pytest.raises(WrongFiles, match="not the parts of one model"):
        build("new", files={"a": half})
    with pytest.raises(WrongFiles, match="only additions"):
        build("new", files={"a": projector})
    with pytest.raises(WrongFiles, match="the adapter is for qwen2, the model is llama"):
        build("new", base="base", adapters={"a": foreign})
    with pytest.raises(WrongFiles, match="FROM names two models"):
        build("new", base="base", files={"a": second})
    with pytest.raises(GgufInvalid):
        build("new", files={"a": store.blobs.put(b"GGUF and nothing else")})


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% if m %}{% continue %}{% endif %}{% break %}{% endfor %}",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}",
        "{{ strftime_now('%Y') }}{{ tools | tojson(indent=2) }}",
    ],
)
def test_templates_of_the_wild_are_taken(
    build: Build, make_gguf: Callable[..., str], template: str
) -> None:
    """With the statements that chat templates use beyond plain Jinja."""
    assert build("a", files={"a": make_gguf()}, template=template).template is not None


def test_a_deep_template_is_refused(build: Build, make_gguf: Callable[..., str]) -> None:
    """Not with a crash of the parser."""
    deep = "{{ " + "(" * 20_000 + "x" + ")" * 20_000 + " }}"
    with pytest.raises(TemplateSyntaxError):
        build("a", files={"a": make_gguf()}, template=deep)


def test_a_model_of_ollama_can_be_a_base(
    store: Store, build: Build, make_gguf: Callable[..., str]
) -> None:
    """Its config lacks our facts: they are told from the weights."""
    digest = make_gguf(llama__context_length=512)
    config = json.dumps({"model_format": "gguf", "model_family": "llama"}).encode()
    manifest = Manifest(
        Descriptor(CONFIG_TYPE, store.blobs.put(config), len(config)),
        (Descriptor(MODEL_TYPE, digest, store.blobs.size(digest)),),
    )
    store.manifests.write(Name.parse("pulled"), manifest)
    model = build("variant", base="pulled", system="s")
    assert model.details.context_length == 512
    assert load_model(store, Name.parse("pulled")).details.parameter_size == "32"


@pytest.mark.parametrize("data", [b"{", b"[" * 100_000])
def test_a_base_with_broken_parameters_is_refused(
    store: Store, build: Build, make_gguf: Callable[..., str], data: bytes
) -> None:
    """What another tool wrote is checked before it is merged."""
    digest, config = make_gguf(), b"{}"
    manifest = Manifest(
        Descriptor(CONFIG_TYPE, store.blobs.put(config), len(config)),
        (
            Descriptor(MODEL_TYPE, digest, store.blobs.size(digest)),
            Descriptor(PARAMS_TYPE, store.blobs.put(data), len(data)),
        ),
    )
    store.manifests.write(Name.parse("pulled"), manifest)
    with pytest.raises(ModelBroken):
        build("variant", base="pulled", parameters={"seed": 1})
    with pytest.raises(ModelBroken):
        load_model(store, Name.parse("pulled"))


def test_sampling_that_the_weights_recommend(build: Build, make_gguf: Callable[..., str]) -> None:
    """It becomes the model's parameters; what the Modelfile says wins, nonsense is left out."""
    digest = make_gguf(
        general__sampling__temp=0.6,
        general__sampling__top_k=20,
        general__sampling__penalty_repeat=1.05,
        general__sampling__top_p=7.5,
        general__sampling__sequence="kpt",
    )
    model = build("told", files={"a.gguf": digest}, parameters={"top_k": 5})
    assert dict(model.parameters) == {"temperature": 0.6, "top_k": 5, "repeat_penalty": 1.05}


@pytest.mark.parametrize(
    ("lines", "computed"),
    [
        ("FROM other\nSYSTEM Be brief.", False),
        ("FROM ./weights.gguf\nADAPTER ./adapter.gguf\nDRAFT ./small.gguf", False),
        ("FROM ./weights.gguf\nQUANTIZE Q4_K_M", True),
        ("FROM ./weights.safetensors", True),
        ("FROM other\nADAPTER ./adapter_model.safetensors", True),
        ("FROM other\nDRAFT ./model.safetensors", True),
    ],
)
def test_what_is_computed(lines: str, computed: bool) -> None:
    """It stands back behind answers; what only puts layers together is not to wait."""
    assert is_computed(from_modelfile(parse(lines))) == computed
