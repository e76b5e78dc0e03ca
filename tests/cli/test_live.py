"""Every command against a live daemon and the real model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

QUESTION = "Say the word apple."
SURE = ("-p", "temperature=0", "-p", "num_predict=16")


def test_one_plain_answer(live_daemon: LiveDaemon) -> None:
    """A prompt as arguments: the answer on stdout, nothing on stderr, exit code 0."""
    done = live_daemon.qm("run", "smollm2", *SURE, "What", "is", "the capital of France?")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Paris" in done.stdout
    assert done.stdout.endswith("\n")
    assert "\x1b" not in done.stdout


def test_a_pipe_is_the_prompt_or_goes_before_it(live_daemon: LiveDaemon) -> None:
    """`echo … | qm run NAME` asks it, and with a prompt both are asked."""
    alone = live_daemon.qm("run", "smollm2", *SURE, stdin="What is the capital of France?\n")
    assert "Paris" in alone.stdout
    both = live_daemon.qm("run", "smollm2", *SURE, "What is its capital?", stdin="About France.\n")
    assert "Paris" in both.stdout


def test_verbose_prints_timings_apart(live_daemon: LiveDaemon) -> None:
    """On stderr, so that the answer stays plain."""
    done = live_daemon.qm("run", "smollm2", *SURE, "--verbose", QUESTION)
    assert "eval rate:" in done.stderr
    assert "eval" not in done.stdout


def test_an_unknown_model_says_how_to_get_it(live_daemon: LiveDaemon) -> None:
    """One line and exit code 1."""
    done = live_daemon.qm("run", "llama9", "hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert "qm pull llama9" in done.stderr


def test_a_wrong_option_is_refused(live_daemon: LiveDaemon) -> None:
    """Before anything is generated, and the option is named."""
    done = live_daemon.qm("run", "smollm2", "-p", "temperature=hot", "hello")
    assert done.returncode == 1
    assert "temperature" in done.stderr


def test_models_are_listed(live_daemon: LiveDaemon) -> None:
    """As a table for people, as JSON for programs, narrowed by a prefix."""
    assert live_daemon.qm("list").stdout.splitlines()[0].split() == [
        "NAME",
        "ID",
        "SIZE",
        "MODIFIED",
    ]
    names = [model["name"] for model in json.loads(live_daemon.qm("ls", "--json").stdout)]
    assert "smollm2:latest" in names
    assert json.loads(live_daemon.qm("list", "nothing", "--json").stdout) == []


def test_a_loaded_model_is_shown_and_stopped(live_daemon: LiveDaemon) -> None:
    """`ps` has it after an answer, and `stop` returns when it is gone."""
    assert live_daemon.qm("run", "smollm2", *SURE, QUESTION).returncode == 0
    assert "smollm2:latest" in live_daemon.qm("ps").stdout
    (loaded,) = json.loads(live_daemon.qm("ps", "smollm2", "--json").stdout)
    assert loaded["context_length"] == 4096
    assert loaded["processor"] == "100% CPU"
    assert loaded["predicted_bytes"] == loaded["actual_bytes"] == loaded["size"]
    (host,) = loaded["devices"]
    assert host["predicted_bytes"] == host["actual_bytes"] == loaded["size"]
    assert "context 4096 of 8192 trained, as asked" in live_daemon.qm("ps", "--why").stdout
    assert live_daemon.qm("stop", "smollm2").stdout == "unloaded 'smollm2'\n"
    assert live_daemon.qm("ps", "smollm2", "--json").stdout == "[]\n"
    assert live_daemon.qm("stop", "smollm2").stdout == "'smollm2' was not loaded\n"


def test_a_loaded_model_holds_its_files(live_daemon: LiveDaemon) -> None:
    """A lease keeps its blobs from being collected until it is unloaded."""
    assert live_daemon.qm("run", "smollm2", *SURE, QUESTION).returncode == 0
    (lease,) = (live_daemon.home / "leases").iterdir()
    manifest = live_daemon.home / "manifests/registry.ollama.ai/library/smollm2/latest"
    assert lease.read_text().strip() in manifest.read_text()
    live_daemon.qm("stop", "smollm2")
    assert list((live_daemon.home / "leases").iterdir()) == []


def test_show_tells_parts_and_all(live_daemon: LiveDaemon) -> None:
    """The whole, one part, or the API's object."""
    everything = live_daemon.qm("show", "smollm2").stdout
    assert "134.52M" in everything
    assert "completion" in everything
    assert live_daemon.qm("show", "smollm2", "--system").stdout.startswith("You are a helpful")
    assert "temperature" in live_daemon.qm("show", "smollm2", "--parameters").stdout
    assert "<|im_start|>" in live_daemon.qm("show", "smollm2", "--template").stdout
    assert "tensors" in json.loads(live_daemon.qm("show", "smollm2", "--json").stdout)
    assert "blk.0.attn_k.weight" in live_daemon.qm("show", "smollm2", "-v").stdout


def test_a_printed_modelfile_builds_the_same_model(live_daemon: LiveDaemon, tmp_path: Path) -> None:
    """Its digest is the same, and nothing is stored twice."""
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(live_daemon.qm("show", "smollm2", "--modelfile").stdout)
    created = live_daemon.qm("create", "again", "-f", str(modelfile))
    assert created.returncode == 0, created.stderr
    models = json.loads(live_daemon.qm("list", "--json").stdout)
    digests = {model["name"]: model["digest"] for model in models}
    assert digests["again:latest"] == digests["smollm2:latest"]
    assert "freed 0 B" in live_daemon.qm("rm", "again").stdout


def test_copies_share_their_bytes(live_daemon: LiveDaemon) -> None:
    """A copy frees nothing when it goes."""
    assert live_daemon.qm("cp", "smollm2", "org/copy:v1").returncode == 0
    usage = json.loads(live_daemon.qm("df", "--json").stdout)
    (copy,) = (model for model in usage["models"] if model["name"] == "org/copy:v1")
    assert copy["own"] == 0
    told = live_daemon.qm("df").stdout
    assert any("shared:" in line and "org/copy:v1" in line for line in told.splitlines())
    assert live_daemon.qm("rm", "org/copy:v1").stdout == "deleted 'org/copy:v1', freed 0 B\n"
    again = live_daemon.qm("rm", "org/copy:v1")
    assert (again.returncode, "not found" in again.stderr) == (1, True)


def test_the_store_is_verified_and_collected(live_daemon: LiveDaemon) -> None:
    """A healthy store is all good, and nothing in use is deleted."""
    verified = live_daemon.qm("verify")
    assert (verified.returncode, "0 bad" in verified.stdout) == (0, True)
    assert json.loads(live_daemon.qm("verify", "smollm2", "--json").stdout)["bad"] == []
    assert live_daemon.qm("gc", "--dry-run").stdout.startswith("would delete")
    assert json.loads(live_daemon.qm("gc", "--json").stdout)["freed_bytes"] >= 0
    assert live_daemon.qm("show", "smollm2").returncode == 0


def test_status_and_logs(live_daemon: LiveDaemon) -> None:
    """What the daemon is, and what it did."""
    status = json.loads(live_daemon.qm("status", "--json").stdout)
    assert (status["pid"], status["running"]) == (live_daemon.process.pid, True)
    assert f"pid:        {live_daemon.process.pid}" in live_daemon.qm("status").stdout
    assert len(live_daemon.qm("logs", "-n", "1").stdout.splitlines()) == 1


def test_tab_completes_model_names(live_daemon: LiveDaemon) -> None:
    """Of models that are here, without the tag that needn't be typed."""
    asked = {"_QM_COMPLETE": "bash_complete", "COMP_WORDS": "qm show smo", "COMP_CWORD": "2"}
    done = replace(live_daemon, env=live_daemon.env | asked).qm()
    assert "plain,smollm2" in done.stdout.splitlines()
