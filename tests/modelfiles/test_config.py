"""The config blob: what listings read instead of the weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from qm.modelfiles.config import Config, ConfigInvalid, Facts, capabilities, facts_of, human_count
from qm.modelfiles.template import Template
from qm.store.gguf import read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qm.store.store import Store

TOOLS = Template.of("{% if tools %}{{ tools }}{% endif %}")


def test_the_real_model_s_facts(smollm2_gguf: Path) -> None:
    """As Ollama shows them for the same file."""
    assert facts_of((read_header(smollm2_gguf, arrays=True),)) == Facts(
        family="llama",
        families=("llama",),
        parameter_count=134_515_008,
        file_type="Q4_1",
        context_length=8192,
        embedding_length=576,
    )


@pytest.mark.parametrize(
    ("metadata", "template", "expected"),
    [
        ({}, None, ("completion",)),
        ({"tokenizer__chat_template": TOOLS.text}, None, ("completion", "tools")),
        ({"tokenizer__chat_template": TOOLS.text}, Template.of("x"), ("completion",)),
        ({}, TOOLS, ("completion", "tools")),
        ({}, Template.of("{{ .Suffix }}{{ .Tools }}"), ("completion", "tools", "insert")),
        ({}, Template.of("{{ .Thinking }}"), ("completion", "thinking")),
        ({"tokenizer__ggml__fim_pre_token_id": 3}, None, ("completion", "insert")),
        ({"tokenizer__ggml__tokens": ["a", "<fim_prefix>"]}, None, ("completion", "insert")),
        ({"tokenizer__ggml__tokens": ["a", "fim_prefix"]}, None, ("completion",)),
        ({"tokenizer__ggml__tokens": ["a"] * 2000 + ["<PRE>"]}, None, ("completion", "insert")),
        ({"llama__pooling_type": 1}, None, ("embedding",)),
        ({"llama__pooling_type": 0}, None, ("completion",)),
        ({"llama__vision__block_count": 2}, None, ("completion", "vision")),
    ],
)
def test_capabilities(
    store: Store,
    make_gguf: Callable[..., str],
    metadata: dict[str, object],
    template: Template | None,
    expected: tuple[str, ...],
) -> None:
    """From the weights' metadata, their vocabulary and the template that holds."""
    path = store.blobs.path(make_gguf(**metadata))
    facts = facts_of((read_header(path, arrays=True),))
    assert capabilities(facts, template) == expected


def test_a_projector_brings_its_senses(store: Store, make_gguf: Callable[..., str]) -> None:
    """Vision unless it says otherwise, hearing only if it says so."""
    weights = read_header(store.blobs.path(make_gguf()), arrays=True)
    seeing = read_header(store.blobs.path(make_gguf(architecture="clip")))
    hearing = read_header(
        store.blobs.path(
            make_gguf(
                architecture="clip", clip__has_vision_encoder=False, clip__has_audio_encoder=True
            )
        )
    )
    assert facts_of((weights,), (seeing,)).modalities == ("vision",)
    assert facts_of((weights,), (seeing,)).families == ("llama", "clip")
    assert facts_of((weights,), (hearing,)).modalities == ("audio",)


def test_a_config_reads_back_equal() -> None:
    """All of its fields, Ollama's and ours."""
    facts = Facts("llama", ("llama", "clip"), 7, "F16", 10, None, True, True, ("a",), ("vision",))
    config = Config(
        family="llama",
        families=("llama", "clip"),
        parameter_size="7",
        file_type="F16",
        renderer="r",
        parser="p",
        requires="1.0.0",
        parent="a:latest",
        capabilities=("embedding",),
        facts=facts,
    )
    data = config.to_json(["sha256:1"])
    assert Config.parse(data) == config
    document = json.loads(data)
    assert document["rootfs"] == {"type": "layers", "diff_ids": ["sha256:1"]}
    assert document["model_type"] == "7"


def test_a_config_of_ollama_is_read_without_our_part() -> None:
    """Its models lack what we add."""
    document = {
        "model_format": "gguf",
        "model_family": "llama",
        "model_families": None,
        "model_type": "8.0B",
        "file_type": "Q4_K_M",
        "architecture": "amd64",
        "os": "linux",
    }
    config = Config.parse(json.dumps(document).encode())
    assert (config.family, config.families, config.facts) == ("llama", ("llama",), None)
    assert (config.parameter_size, config.file_type) == ("8.0B", "Q4_K_M")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_config_is_refused(data: bytes) -> None:
    """With a typed error, however it is broken."""
    with pytest.raises(ConfigInvalid):
        Config.parse(data)


def test_odd_fields_count_as_absent() -> None:
    """A stranger's config can't break a listing."""
    data = b'{"model_family": 1, "model_families": "x", "qm": {"facts": {"parameter_count": true}}}'
    config = Config.parse(data)
    assert (config.family, config.families) == ("", ())
    assert config.facts is not None
    assert config.facts.parameter_count == 0


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00K"),
        (134_515_008, "134.52M"),
        (22_565_376, "22.57M"),
        (8_030_261_312, "8.0B"),
        (1_000_000_000_000, "1.0T"),
    ],
)
def test_counts_are_written_for_people(number: int, text: str) -> None:
    """As Ollama writes them."""
    assert human_count(number) == text
