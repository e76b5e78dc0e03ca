"""Quantising begins while the conversion still writes, and nothing but time depends on that."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest
from qm.modelfiles.build.ahead import Ahead, Front, Guard, Unobserved, beginning_ahead
from qm.modelfiles.build.convert.errors import BadTensor
from qm.modelfiles.build.loading import Unloadable
from qm.store.gguf import Header, read_header

from tests.modelfiles.build.building import built
from tests.modelfiles.build.convert.test_refused import drop, make, poison

if TYPE_CHECKING:
    from qm.store.store import Store

LIMIT_S = 60
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="two passes everywhere else")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make(tmp_path / "repository", "llama3")


def test_one_pass_gives_what_two_passes_give(
    child: ProcessPoolExecutor, repository: Path, tmp_path: Path
) -> None:
    """The same weights as from a conversion that is finished; and that one is kept too."""
    one, ahead = child.submit(built, tmp_path / "a", repository, "Q8_0").result(LIMIT_S)
    assert ahead == [one]
    converted, _ = child.submit(built, tmp_path / "b", repository, "").result(LIMIT_S)
    two, ahead = child.submit(built, tmp_path / "b", repository, "Q8_0").result(LIMIT_S)
    assert ahead == []
    assert one == two
    assert (tmp_path / "a/blobs" / converted.replace(":", "-")).is_file()


def test_a_conversion_that_fails_ends_both(
    child: ProcessPoolExecutor, repository: Path, tmp_path: Path
) -> None:
    """The repository's fault is the error, at once; neither file is left."""
    poison(float("nan"))(repository)
    with pytest.raises(BadTensor, match="holds a NaN"):
        child.submit(built, tmp_path / "home", repository, "Q8_0").result(LIMIT_S)
    assert list((tmp_path / "home/partial").iterdir()) == []
    assert len(list((tmp_path / "home/blobs").iterdir())) == len(list(repository.iterdir()))


@pytest.mark.parametrize("quantize", ["Q8_0", ""])
def test_what_llama_cpp_can_not_load_is_no_model(
    quantize: str, child: ProcessPoolExecutor, repository: Path, tmp_path: Path
) -> None:
    """It is asked before the tensors are written; nothing is kept."""
    drop("model.norm.weight")(repository)
    with pytest.raises(Unloadable, match=r"can't load.*'output_norm.weight' not found"):
        child.submit(built, tmp_path / "home", repository, quantize).result(LIMIT_S)
    assert list((tmp_path / "home/partial").iterdir()) == []
    assert len(list((tmp_path / "home/blobs").iterdir())) == len(list(repository.iterdir()))


def test_a_step_that_fails_ahead_fails_when_its_turn_comes(store: Store, tiny_llama: Path) -> None:
    """What it reads is finished and kept all the same."""

    def task(*_: object) -> str:
        raise BadTensor("nothing to be done")

    data = tiny_llama.read_bytes()
    with store.blobs.writer() as writer:
        with beginning_ahead(writer, read_header, task) as ahead:
            assert isinstance(ahead, Ahead)
            writer.write(data[: read_header(tiny_llama).data_offset])
            ahead.laid_out(len(data))
            writer.write(data[writer.written_bytes :])
            ahead.written(len(data))
        assert store.blobs.has(writer.commit())
    with pytest.raises(BadTensor, match="nothing to be done"):
        ahead.result(lambda _: None)


def test_nothing_is_kept_of_a_file_that_is_refused(store: Store, tiny_llama: Path) -> None:
    """The check goes on beside the task; what nobody has read by then becomes no numbers."""
    header, began = read_header(tiny_llama), Event()
    first, *others = sorted(header.tensors, key=lambda tensor: tensor.offset)

    def check(_: Path) -> None:
        assert began.wait(LIMIT_S)
        raise BadTensor("refused")

    def task(_source: Path, _header: Header, guard: Guard, _tell: object) -> str:
        guard.wait_for(first.name)
        began.set()
        guard.confirm()
        return "kept"

    data = tiny_llama.read_bytes()
    with store.blobs.writer() as writer:
        with (
            pytest.raises(BadTensor, match="refused"),
            beginning_ahead(writer, check, task) as ahead,
        ):
            assert isinstance(ahead, Ahead)
            writer.write(data[: header.data_offset])
            ahead.laid_out(len(data))
            writer.write(data[writer.written_bytes :])
            ahead.written(len(data))
            assert began.wait(LIMIT_S)
        assert isinstance(ahead, Ahead)
        with pytest.raises(BadTensor, match="refused"):
            ahead.result(lambda _: None)
        written = writer.path.read_bytes()
    read, *spoiled = [written[header.data_offset + each.offset :][:4] for each in (first, *others)]
    assert read == data[header.data_offset + first.offset :][:4]
    assert spoiled == [b"\xff" * 4] * len(others)


def test_a_tensor_is_waited_for_until_its_last_byte(tiny_llama: Path) -> None:
    """One that nobody knows is there when all are."""
    header = read_header(tiny_llama)
    first = min(header.tensors, key=lambda tensor: tensor.offset)
    end = header.data_offset + first.offset + first.size_bytes
    for name, enough in ((first.name, end), ("unknown", header.file_bytes)):
        front, there = Front(header), Event()

        def wait(front: Front = front, there: Event = there, name: str = name) -> None:
            front.wait_for(name)
            there.set()

        waiting = Thread(target=wait)
        waiting.start()
        front.reached(enough - 64)
        assert not there.wait(0.05)
        front.reached(enough)
        assert there.wait(LIMIT_S)
        waiting.join()


def test_a_result_counts_only_if_every_tensor_was_waited_for(tiny_llama: Path) -> None:
    """Else the quantiser may have read what was not written yet."""
    header = read_header(tiny_llama)
    front = Front(header)
    front.reached(header.file_bytes)
    for tensor in header.tensors[1:]:
        front.wait_for(tensor.name)
    with pytest.raises(Unobserved):
        front.check()
    front.wait_for(header.tensors[0].name)
    front.check()
