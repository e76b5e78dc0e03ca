"""The JSON of `/api/create`: what clients of Ollama send, and what our CLI sends."""

from __future__ import annotations

import json

import pytest
from qm.modelfiles.create_request import InvalidSpec, from_create_request, to_create_request
from qm.modelfiles.gotemplate.errors import TemplateSyntaxError
from qm.modelfiles.parameters import OptionError
from qm.modelfiles.parser import ModelfileError, parse
from qm.modelfiles.spec import ModelSpec, NotYet, Source, Turn, from_modelfile

DIGEST = "sha256:" + "1" * 64


def test_reads_what_ollama_s_clients_send() -> None:
    """Every field, and none for those that are unknown or null."""
    body = {
        "model": "x",
        "from": "smol",
        "files": {"a.gguf": DIGEST},
        "adapters": {"lora.gguf": DIGEST},
        "template": "{{ .Prompt }}",
        "system": "s",
        "license": "MIT",
        "parameters": {"temperature": 0, "stop": "END", "seed": None, "low_vram": True},
        "messages": [{"role": "user", "content": "hi"}],
        "requires": "0.1.0",
        "quantize": None,
        "stream": False,
        "bogus": 1,
    }
    assert from_create_request(body) == ModelSpec(
        from_=(Source("smol"), Source("a.gguf", DIGEST)),
        adapters=(Source("lora.gguf", DIGEST),),
        template="{{ .Prompt }}",
        system="s",
        licenses=("MIT",),
        parameters={"temperature": 0.0, "stop": ("END",)},
        messages=(Turn("user", "hi"),),
        requires="0.1.0",
    )


def test_empty_texts_change_nothing() -> None:
    """Clients send empty fields that their users left out."""
    spec = from_create_request({"from": "a", "system": "", "template": "", "license": [""]})
    assert (spec.system, spec.template, spec.licenses) == (None, None, ())


@pytest.mark.parametrize("body", [{}, {"modelfile": "FROM smol"}, {"from": ""}, {"files": {}}])
def test_nothing_to_build_from(body: dict[str, object]) -> None:
    """The words that Ollama's clients know."""
    with pytest.raises(InvalidSpec) as caught:
        from_create_request({"model": "x", **body})
    assert str(caught.value) == "neither 'from' or 'files' was specified"
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("field", "error", "words"),
    [
        ({"from": 1}, InvalidSpec, "from must be a string"),
        ({"files": ["a"]}, InvalidSpec, "files must be an object"),
        ({"files": {"a": 1}}, InvalidSpec, "files must be an object"),
        ({"system": ["a"]}, InvalidSpec, "system must be a string"),
        ({"license": [1]}, InvalidSpec, "license must be a string or an array"),
        ({"license": {"a": 1}}, InvalidSpec, "license must be a string or an array"),
        ({"messages": {}}, None, ""),
        ({"messages": "hi"}, InvalidSpec, "messages must be an array"),
        ({"messages": [1]}, InvalidSpec, "messages[0] must have a role"),
        ({"messages": [{"role": "user"}]}, InvalidSpec, "messages[0] must have a role"),
        ({"messages": [{"role": "x", "content": "a"}]}, InvalidSpec, "messages[0].role must be"),
        ({"parameters": [1]}, InvalidSpec, "parameters must be an object"),
        ({"parameters": {"foo": 1}}, OptionError, 'option "foo" does not exist'),
        ({"parameters": {"temperature": "hot"}}, OptionError, 'option "temperature" must be'),
        ({"requires": "banana"}, ModelfileError, "REQUIRES needs a version"),
        ({"template": "{{ if .Foo"}, TemplateSyntaxError, "template: :1: unclosed action"),
        ({"tensor_types": ["a"]}, ModelfileError, "TENSOR_TYPE needs"),
        ({"remote_host": "https://x"}, NotYet, "remote_host is not supported yet"),
    ],
)
def test_a_wrong_field_is_named(
    field: dict[str, object], error: type[Exception] | None, words: str
) -> None:
    """Ollama takes some of these and fails later; here they are a 400 at once."""
    body = {"from": "smol", **field}
    if error is None:
        assert from_create_request(body).messages == ()
        return
    with pytest.raises(error) as caught:
        from_create_request(body)
    assert words in str(caught.value)
    assert caught.value.status == 400  # type: ignore[attr-defined]  # all are QmErrors


def test_a_modelfile_survives_the_way_through_json() -> None:
    """What the CLI sends is read as what the Modelfile said."""
    text = """FROM ./dir/a.gguf
FROM base
TEMPLATE {{ .Prompt }}
SYSTEM ""
PARAMETER stop a
PARAMETER logit_bias 5=1.5
PARAMETER use_mmap false
MESSAGE user hi
LICENSE one
ADAPTER ./lora.gguf
REQUIRES 0.14.0
QUANTIZE Q4_K_M
IMATRIX auto
TENSOR_TYPE a=F16
DELTA ./delta.safetensors
EVALUATE
"""
    spec = from_modelfile(parse(text))
    files = dict.fromkeys(("./dir/a.gguf", "./lora.gguf", "./delta.safetensors"), DIGEST)
    request = to_create_request(spec, files)
    again = from_create_request(json.loads(json.dumps(request)))
    assert request["files"] == {"a.gguf": DIGEST}
    assert again.from_ == (Source("base"), Source("a.gguf", DIGEST))
    assert again.adapters == (Source("lora.gguf", DIGEST),)
    assert again.deltas == (Source("delta.safetensors", DIGEST),)
    for field in ("template", "system", "parameters", "messages", "licenses", "requires"):
        assert getattr(again, field) == getattr(spec, field), field
    for field in ("quantize", "imatrix", "tensor_types", "evaluate"):
        assert getattr(again, field) == getattr(spec, field), field


def test_files_of_one_name_are_kept_apart() -> None:
    """Two folders may hold files of the same name."""
    spec = from_modelfile(parse("FROM ./a/m.gguf\nFROM ./b/m.gguf"))
    other = "sha256:" + "2" * 64
    request = to_create_request(spec, {"./a/m.gguf": DIGEST, "./b/m.gguf": other})
    assert request == {"files": {"m.gguf": DIGEST, "1-m.gguf": other}}


def test_an_adapter_that_is_no_file_is_refused() -> None:
    """It has no name to fall back to."""
    spec = from_modelfile(parse("FROM a\nADAPTER ./gone.gguf"))
    with pytest.raises(ModelfileError, match=r"line 2: no such file: \./gone\.gguf"):
        to_create_request(spec, {})
