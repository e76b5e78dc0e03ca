"""With or without flash attention: what is asked for, what is possible, what is faster here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from qm.daemon.runner import attention

from .tiny_models import write_tiny_model

_SCRIPT = """
import json, sys
from qm.daemon.runner.isolation import forgo_amx
forgo_amx()
from qm.daemon.runner import attention, wire
from qm.daemon.runner.llama import Context, spares_flash
from qm.daemon.runner.llama_log import Log
from qm.daemon.runner.weights import Model
log = Log()
found = {}
for slow in (False, True):
    attention.is_slow = lambda width: slow
    for name, options in (
        ("auto", {}), ("on", {"flash_attention": "on"}), ("off", {"flash_attention": "off"}),
        ("q8_0", {"kv_type": "q8_0"}),
    ):
        placement = wire.Placement(n_ctx=256, n_threads=1, **options)
        model = Model((sys.argv[1],), placement, lambda _fraction: True, log)
        found[f"{name} {slow}"] = spares_flash(model, placement)
        if name != "q8_0":  # such narrow heads can't be quantised
            context = Context(model, placement, log, embedding=False)
            found[f"batch {context.without_flash}"] = context.n_ubatch
            context.free()
        model.free()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What contexts of a model with narrow heads do where that is slow, and where not."""
    model = write_tiny_model(tmp_path_factory.mktemp("attention") / "model.gguf", "llama")
    command = [sys.executable, "-c", _SCRIPT, str(model)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    values: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return values


@pytest.mark.parametrize(
    ("flags", "has_amx", "wide"),
    [
        ("avx512_fp16 amx_int8", True, True),
        ("avx512_fp16 amx_int8", False, False),
        ("avx512_fp16", False, True),
        ("avx2 avx512f", False, False),
        ("avx2 avx512f", True, False),
        ("", False, False),
    ],
)
def test_processor_and_build_tell(flags: str, has_amx: bool, wide: bool) -> None:
    """A build for this processor has AMX where that is there; who leaves it out leaves out both."""
    assert attention.may_be_wide(frozenset(flags.split()), has_amx) is wide


@pytest.mark.parametrize(("width", "slow"), [(64, True), (96, True), (128, False), (256, False)])
def test_narrow_heads_do_not_fill_wide_vectors(
    monkeypatch: pytest.MonkeyPatch, width: int, slow: bool
) -> None:
    monkeypatch.setattr(attention, "has_wide_vectors", lambda: True)
    assert attention.is_slow(width) is slow
    monkeypatch.setattr(attention, "has_wide_vectors", lambda: False)
    assert not attention.is_slow(width)


@pytest.mark.parametrize(("width", "whole"), [(64, True), (96, True), (128, False), (256, False)])
def test_narrow_heads_want_whole_tiles(width: int, whole: bool) -> None:
    """Also where flash attention is fast: fewer tokens than a tile's go one by one."""
    assert attention.takes_parts(width) is not whole


@pytest.mark.parametrize(
    ("name", "slow", "without"),
    [
        ("auto", False, False),
        ("auto", True, True),
        ("on", True, False),
        ("off", False, True),
        ("q8_0", True, False),
    ],
)
def test_who_decides(found: dict[str, object], name: str, slow: bool, without: bool) -> None:
    """What is asked for holds; quantised values need it; else it is what is faster."""
    assert found[f"{name} {slow}"] is without


def test_without_it_less_is_evaluated_together(found: dict[str, object]) -> None:
    """Its buffer grows with tokens times cells."""
    assert (found["batch True"], found["batch False"]) == (64, 256)
