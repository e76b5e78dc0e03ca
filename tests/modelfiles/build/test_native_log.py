"""llama.cpp's log, where one thread checks a file that another quantises."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from qm.modelfiles.build import native_log as module
from qm.modelfiles.build.native_log import NativeLog, native_log

LINE = b"[   1/   9] blk.0.attn_k.weight - [64, 64, 1, 1], type = f32, size = 1 MiB"


def test_threads_that_begin_together_share_one_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two, llama.cpp would know only the last, and whoever has the other would hear nothing."""
    both = Barrier(2)

    class Slow(NativeLog):
        def __init__(self) -> None:
            time.sleep(0.02)
            super().__init__()

    def first_use() -> NativeLog:
        both.wait()
        return native_log()

    before = native_log()
    try:
        with monkeypatch.context() as patched, ThreadPoolExecutor(2) as pool:
            patched.setattr(module, "NativeLog", Slow)
            patched.setattr(module, "_log", [])
            one, other = pool.submit(first_use), pool.submit(first_use)
        assert one.result() is other.result()
    finally:
        before.take_over()


def test_a_thread_hears_only_what_it_caused() -> None:
    """Lines of a file that is loaded elsewhere are no plan of this one."""
    log, lines, tensors = native_log(), list[str](), list[str]()
    with log.telling(on_line=lines.append, on_tensor=lambda name, *_: tensors.append(name)):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(log._on_line, 2, LINE, None).result()
        assert (lines, tensors) == ([], [])
        log._on_line(2, LINE, None)
    log._on_line(2, LINE, None)
    assert len(lines) == 1
    assert tensors == ["blk.0.attn_k.weight"]
