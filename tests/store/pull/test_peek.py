"""A model of the hub is known from the beginnings of its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from qm.daemon.facts import model_facts
from qm.store.gguf import GgufInvalid, read_header
from qm.store.pull.choose import NoGguf
from qm.store.pull.hub import RepoMissing
from qm.store.pull.peek import MOST_BYTES, peek
from qm.store.pull.reference import parse_reference

from tests.fakehub import FakeHub
from tests.modelfiles.build.tiny_llama import write_tiny_llama


def put(hub: FakeHub, name: str, content: Path | bytes) -> None:
    path = hub.repos.root / "org/tiny" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.symlink_to(content)


def test_facts_are_those_of_the_whole_file(hub: FakeHub, smollm2_gguf: Path) -> None:
    """And less than 20 MB are read for them, of any model."""
    put(hub, "tiny-Q4_1.gguf", smollm2_gguf)
    put(hub, "mmproj-F16.gguf", b"x" * 1000)
    seen = peek(parse_reference("hf.co/org/tiny:Q4_1"), hub.url)
    whole = read_header(smollm2_gguf)
    assert model_facts(seen.headers[0]) == model_facts(whole)
    assert seen.size_bytes == smollm2_gguf.stat().st_size
    assert seen.projector_bytes == 1000
    assert seen.read_bytes <= 4 << 20 < MOST_BYTES < 20_000_000


def test_a_damaged_file_is_told(hub: FakeHub, smollm2_gguf: Path) -> None:
    """Not downloaded in the hope that its end is better."""
    put(hub, "tiny-Q4_1.gguf", smollm2_gguf.read_bytes()[: 3 << 20])
    with pytest.raises(GgufInvalid):
        peek(parse_reference("hf.co/org/tiny"), hub.url)


def test_what_is_not_there_is_told(hub: FakeHub) -> None:
    """As a pull would."""
    put(hub, "README.md", b"words")
    with pytest.raises(NoGguf):
        peek(parse_reference("hf.co/org/tiny"), hub.url)
    with pytest.raises(RepoMissing):
        peek(parse_reference("hf.co/org/missing"), hub.url)


def test_of_many_parts_little_is_read(hub: FakeHub, tmp_path: Path) -> None:
    """The first has the vocabulary; of the others a few thousand bytes say it all."""
    write_tiny_llama(tmp_path / "tiny-F16.gguf", tensors_a_part=1)
    parts = sorted(tmp_path.glob("tiny-F16-*.gguf"))
    assert len(parts) > 10
    for part in parts:
        with part.open("r+b") as file:
            file.truncate(3 << 20)  # as long as a real one, in which nothing more is looked for
        put(hub, part.name, part)
    seen = peek(parse_reference("hf.co/org/tiny:F16"), hub.url)
    assert len(seen.headers) == len(parts)
    assert seen.read_bytes <= len(parts) << 16
