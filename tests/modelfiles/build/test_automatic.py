"""`QUANTIZE auto`: what fits is tried, what measures best is taken, and it runs where it fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from qm.daemon.building import BuildMachine
from qm.daemon.hardware import Machine
from qm.daemon.placing import Wanted
from qm.modelfiles.build.automatic import TYPES, NoTypeFits, Room, best, considered, fitting
from qm.modelfiles.build.quantise import Order, predicted_bytes, quantise
from qm.modelfiles.quality import Quality
from qm.modelfiles.quantization import Quantize, UnknownType, parse_quantize
from qm.store.gguf import Header, read_header

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

WISH = parse_quantize("auto output=Q8_0")
SIZES = [(Quantize("Q8_0"), 850), (Quantize("Q4_K_M"), 485), (Quantize("Q4_K_S"), 458)]
SIZES += [(Quantize("IQ4_XS"), 425), (Quantize("Q2_K"), 300)]


def room(most_bytes: int) -> Room:
    """Takes weights of so many bytes."""
    fits: Callable[[Sequence[Header], int, int | None], str]
    fits = lambda _headers, size_bytes, _n_ctx: "somewhere" if size_bytes <= most_bytes else ""  # noqa: E731
    return Room(fits, f"{most_bytes} bytes are available")


def measured(divergence: float) -> Quality:
    return Quality(20.0, 0.1, 1, 4.0, 1.0, 1.0, kld_mean=divergence)


def test_every_type_inherits_the_options() -> None:
    """`auto` stands for the type alone; those that need a matrix need one."""
    assert Quantize("AUTO", output="Q8_0") == WISH
    types = considered(WISH, with_imatrix=False)
    assert all(each.output == "Q8_0" for each in types)
    assert "IQ2_XS" not in [each.type for each in types]
    assert [each.type for each in considered(WISH, with_imatrix=True)] == list(TYPES)
    with pytest.raises(UnknownType, match="did you mean AUTO"):
        parse_quantize("autoo")


@pytest.mark.parametrize(
    ("most_bytes", "tried"),
    [
        (10_000, ["Q8_0"]),
        (849, ["Q4_K_M", "Q4_K_S", "IQ4_XS"]),
        (460, ["Q4_K_S", "IQ4_XS"]),
        (300, ["Q2_K"]),
    ],
)
def test_the_largest_that_fit_are_tried(most_bytes: int, tried: list[str]) -> None:
    """And those that are hardly smaller, as they may be better."""
    found = fitting(SIZES, [], room(most_bytes))
    assert [each.quantize.type for each in found] == tried


def test_what_nothing_fits_says_what_is_short() -> None:
    """With the smallest type and both numbers."""
    with pytest.raises(NoTypeFits, match=r"Q2_K take 300 bytes, and 299 bytes are available"):
        fitting(SIZES, [], room(299))


def test_the_least_divergence_wins() -> None:
    """Not the size; and the reason has every figure."""
    found = fitting(SIZES, [], room(500))
    choice = best(found, [measured(0.02), measured(0.03), measured(0.01)], room(500))
    assert choice.candidate.quantize.type == "IQ4_XS"
    assert "Q4_K_M 0.02000, Q4_K_S 0.03000, IQ4_XS 0.01000" in choice.reason
    assert best(found, [], room(500)).candidate.quantize.type == "Q4_K_M"


def test_sizes_are_predicted_without_making_anything(
    child: ProcessPoolExecutor, tiny_llama: Path, tmp_path: Path
) -> None:
    """To the hundredth of a MiB that llama.cpp tells."""
    order = Order(parse_quantize("Q4_K_M"))
    predicted = child.submit(predicted_bytes, tiny_llama, order).result(60)
    child.submit(quantise, tiny_llama, tmp_path / "q4.gguf", order, print).result(60)
    assert abs(read_header(tmp_path / "q4.gguf").weights_bytes - predicted) < 12_000


def machine(available_bytes: int) -> BuildMachine:
    host = Machine(available_bytes, available_bytes, 1)
    return BuildMachine(host, (), Wanted(4096, 4, ("f16",)))


def test_more_context_leaves_less_for_weights(tiny_llama: Path) -> None:
    """The whole context must fit, whether it is the usual one or asked for."""
    headers = [read_header(tiny_llama)]
    size_bytes = headers[0].weights_bytes
    enough = next(
        number << 16
        for number in range(1, 8192)
        if machine(number << 16).fits(headers, size_bytes, 64)
    )
    assert "context 64 of 2048" in machine(enough).fits(headers, size_bytes, 64)
    assert machine(enough).fits(headers, size_bytes, 2048) == ""
    assert machine(enough).fits(headers, size_bytes, None) == ""
    assert machine(enough).fits(headers, size_bytes + (1 << 20), 64) == ""


@pytest.mark.slow
def test_on_a_live_daemon(
    start_daemon: Callable[..., LiveDaemon], tiny_llama: Path, tmp_path: Path
) -> None:
    """With memory enough it is Q8_0; with little it is less, which loads in what there is."""
    daemon = start_daemon()
    made = [daemon.qm("create", "base", "--from", str(tiny_llama))]
    made.append(daemon.qm("create", "large", "--from", "base", "-q", "auto"))
    assert [done.returncode for done in made] == [0, 0], made[-1].stderr
    shown = daemon.json("POST", "/api/show", {"model": "large"})
    assert shown["details"]["quantization_level"] == "Q8_0"
    assert shown["qm"]["provenance"]["choice"]["measured"]["Q8_0"]["kld_mean"] >= 0
    assert "of host memory are available" in daemon.qm("show", "large", "--provenance").stdout
    daemon.stop()
    headers, target = [read_header(tiny_llama)], 800_000
    enough = next(
        number << 12
        for number in range(1, 1 << 20)
        if machine(number << 12).fits(headers, target, 256)
    )
    daemon = start_daemon(home=daemon.home, QM_MEMORY_LIMIT=str(enough))
    file = tmp_path / "Modelfile"
    file.write_text("FROM base\nQUANTIZE auto\nIMATRIX none\nPARAMETER num_ctx 256\n")
    done = daemon.qm("create", "small", "-f", str(file))
    assert done.returncode == 0, done.stderr
    choice = daemon.json("POST", "/api/show", {"model": "small"})["qm"]["provenance"]["choice"]
    assert choice["type"] in TYPES[4:]
    assert choice["type"] == min(
        choice["measured"], key=lambda name: choice["measured"][name]["kld_mean"]
    )
    body = {"model": "small", "prompt": "a", "stream": False, "options": {"num_predict": 2}}
    assert daemon.json("POST", "/api/generate", body)["eval_count"] > 0
    file.write_text("FROM base\nQUANTIZE auto\nIMATRIX none\nPARAMETER num_ctx 2048\n")
    refused = daemon.qm("create", "none", "-f", str(file))
    assert refused.returncode == 1
    assert "no type is small enough" in refused.stderr
