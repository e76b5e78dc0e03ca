"""What a request asks of a loaded model's runner."""

from __future__ import annotations

import pytest
from qm.daemon.loaded import exact_options
from qm.daemon.runner.wire import Options

ONE_TYPE = ("f16",)


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (Options(), ()),
        (Options(num_gpu=5, main_gpu=1), (("num_gpu", 5), ("main_gpu", 1))),
        (Options(num_gpu=0), (("num_gpu", 0),)),
        (Options(num_gpu=-1), ()),
        (Options(num_gpu=31), (("num_gpu", 31),)),
        (Options(num_gpu=999), (("num_gpu", 31),)),
        (Options(main_gpu=0, use_mmap=True, kv_type="f16"), ()),
        (Options(use_mmap=False, kv_type="q8_0"), (("kv_type", "q8_0"), ("use_mmap", False))),
    ],
)
def test_what_holds_anyway_needs_no_other_runner(
    wishes: Options, expected: tuple[tuple[str, object], ...]
) -> None:
    """Clients that send their defaults must not unload what others use."""
    assert exact_options(wishes, 30, ONE_TYPE, has_gpus=True) == expected


def test_without_gpus_their_options_mean_nothing() -> None:
    """Layers are on the CPU whatever a client says."""
    wishes = Options(num_gpu=5, main_gpu=1, kv_type="q8_0")
    assert exact_options(wishes, 30, ONE_TYPE, has_gpus=False) == (("kv_type", "q8_0"),)


def test_where_another_type_is_allowed_the_first_is_a_wish() -> None:
    """A runner may have the other, for memory's sake."""
    wishes = Options(kv_type="f16")
    assert exact_options(wishes, 30, ("f16", "q8_0"), has_gpus=True) == (("kv_type", "f16"),)
