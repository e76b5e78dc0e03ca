"""Guessing ahead as a user meets it: a Modelfile with DRAFT, its answers, and what is counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

PROMPT = "apple 1, pear 2, plum 3, fig 4, lime 5; " * 4


@pytest.fixture(scope="module")
def daemon(
    start_module_daemon: Callable[..., LiveDaemon],
    smollm2_gguf: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> LiveDaemon:
    """One that tries every guess, with a model `plain` and one that plain guesses for.

    A quantised cache takes flash attention, with which tokens together are to the bit as alone.
    """
    live = start_module_daemon(QM_SPECULATION="always", QM_CONTEXT_LENGTH="1024")
    modelfile = tmp_path_factory.mktemp("draft") / "Modelfile"
    for name, text in (("plain", ""), ("drafted", "DRAFT plain\nPARAMETER draft_num_predict 3\n")):
        modelfile.write_text(
            f"FROM {smollm2_gguf}\nPARAMETER num_thread 1\nPARAMETER kv_type q8_0\n{text}"
        )
        created = live.qm("create", name, "-f", str(modelfile))
        assert created.returncode == 0, created.stderr
    return live


def answer(daemon: LiveDaemon, prompt: str, **more: Any) -> dict[str, Any]:
    options = {"temperature": 0, "num_predict": 16, **more.pop("options", {})}
    body = {"prompt": prompt, "stream": False, "options": options, **more}
    answered: dict[str, Any] = daemon.json("POST", "/api/generate", body)
    return answered


def counted(daemon: LiveDaemon, name: str, model: str) -> int:
    """A counter of /metrics."""
    _, text = daemon.call("GET", "/metrics")
    start = f'{name}{{model="{model}:latest"}} '
    lines = [line for line in text.decode().splitlines() if line.startswith(start)]
    return int(lines[0].removeprefix(start)) if lines else 0


def test_guesses_are_counted(daemon: LiveDaemon) -> None:
    """In the answer's metrics, and for all answers in /metrics; without guesses there are none."""
    found = answer(daemon, PROMPT, model="plain", raw=True)
    assert found["draft_count"] >= found["draft_accepted_count"] > 0
    assert counted(daemon, "qm_drafted_tokens_total", "plain") == found["draft_count"]
    assert counted(daemon, "qm_accepted_tokens_total", "plain") == found["draft_accepted_count"]
    without = answer(daemon, PROMPT, model="plain", raw=True, options={"draft_num_predict": 0})
    assert "draft_count" not in without
    assert without["response"] == found["response"]


def test_a_draft_model_guesses(daemon: LiveDaemon) -> None:
    """Where nothing repeats, too, and to the same text."""
    question = "Why is the sky blue?"
    found = answer(daemon, question, model="drafted")
    assert found["draft_accepted_count"] > 0
    assert found["response"] == answer(daemon, question, model="plain")["response"]


def test_show_prints_the_draft(daemon: LiveDaemon, tmp_path: Path) -> None:
    """And what it prints builds the same model again."""
    shown = daemon.qm("show", "drafted", "--modelfile").stdout
    assert "\nDRAFT /" in shown
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(shown)
    created = daemon.qm("create", "again", "-f", str(modelfile))
    assert created.returncode == 0, created.stderr
    tags = {one["name"]: one["digest"] for one in daemon.json("GET", "/api/tags")["models"]}
    assert tags["again:latest"] == tags["drafted:latest"]


def test_a_draft_of_another_family_is_refused(
    daemon: LiveDaemon, smollm2_gguf: Path, minilm_gguf: Path, tmp_path: Path
) -> None:
    """By the create, with the reason."""
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f"FROM {smollm2_gguf}\nDRAFT {minilm_gguf}\n")
    refused = daemon.qm("create", "wrong", "-f", str(modelfile))
    assert refused.returncode != 0
    assert "the draft model" in refused.stderr
