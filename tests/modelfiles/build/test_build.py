"""The whole way on a live daemon: a repository or a GGUF becomes a quantised model that answers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from qm.modelfiles.build.texts import CALIBRATION, EVALUATION

from tests.fakehub import FakeHub

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

pytestmark = pytest.mark.slow
BUILD_LIMIT_S = 600  # builds stand back behind whatever else the machine does


@pytest.fixture(scope="module")
def hub(smollm2_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """A hub that has the repository as org/smol."""
    root = tmp_path_factory.mktemp("repos")
    shutil.copytree(smollm2_repository, root / "org/smol", copy_function=os.link)
    (root / "org/smol/.fakehub.json").write_text("{}")
    with FakeHub(root) as hub:
        yield hub


@pytest.fixture(scope="module")
def daemon(hub: FakeHub, start_hub_daemon: Callable[[FakeHub], LiveDaemon]) -> LiveDaemon:
    """One for this module, so that its build cache starts empty."""
    return start_hub_daemon(hub)


@pytest.fixture(scope="module")
def built(
    daemon: LiveDaemon, smollm2_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """What `qm create` said while it built q4 from the repository."""
    modelfile = tmp_path_factory.mktemp("build") / "Modelfile"
    modelfile.write_text(f"FROM {smollm2_repository}\nQUANTIZE Q4_K_M\nIMATRIX none\n")
    done = daemon.qm("create", "q4", "-f", str(modelfile), limit_s=BUILD_LIMIT_S)
    assert done.returncode == 0, done.stderr
    return done.stderr


def weights(daemon: LiveDaemon, model: str) -> str:
    """The digest of a model's weights, as its Modelfile names them."""
    text: str = daemon.json("POST", "/api/show", {"model": model})["modelfile"]
    line = next(line for line in text.splitlines() if line.startswith("FROM "))
    return line.rpartition("sha256-")[2]


def test_a_repository_becomes_a_model_that_answers(daemon: LiveDaemon, built: str) -> None:
    """Converted, quantised, and it knows what it knew."""
    assert "converting model" in built
    assert "quantizing BF16 model to Q4_K_M" in built
    body = {
        "model": "q4",
        "messages": [{"role": "user", "content": "Name the capital city of France."}],
        "stream": False,
        "options": {"temperature": 0, "num_predict": 20},
    }
    assert "Paris" in daemon.json("POST", "/api/chat", body)["message"]["content"]
    details = daemon.json("POST", "/api/show", {"model": "q4"})["details"]
    assert details["quantization_level"] == "Q4_K_M"


def test_a_changed_template_builds_nothing(
    daemon: LiveDaemon, built: str, smollm2_repository: Path, tmp_path: Path
) -> None:
    """Every step comes from the cache, and the weights are the same."""
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(
        f"FROM {smollm2_repository}\nQUANTIZE Q4_K_M\nIMATRIX none\nTEMPLATE {{{{ .Prompt }}}}\n"
    )
    done = daemon.qm("create", "other", "-f", str(modelfile), limit_s=BUILD_LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert "using cached convert sha256:" in done.stderr
    assert "using cached quantize sha256:" in done.stderr
    assert "converting model" not in done.stderr
    assert weights(daemon, "other") == weights(daemon, "q4")


def test_the_native_route_quantises_from_another_model(daemon: LiveDaemon, built: str) -> None:
    """As Ollama's clients ask for it, in either case of the type."""
    status, data = daemon.call(
        "POST", "/api/create", {"model": "again", "from": "q4", "quantize": "q4_k_m"}
    )
    assert status == 200
    assert json.loads(data.splitlines()[-1]) == {"status": "success"}
    body = {"model": "q8", "from": "q4", "quantize": "Q8_0", "stream": False}
    status, data = daemon.call("POST", "/api/create", body)
    assert status == 400
    assert "QUANTIZE Q8_0 requantize" in json.loads(data)["error"]
    body |= {"quantize": "Q8_0 requantize"}
    assert daemon.json("POST", "/api/create", body) == {"status": "success"}
    assert weights(daemon, "q8") != weights(daemon, "q4")


@pytest.mark.parametrize("quantize", ["Q4_KM", "Q8_0 fast"])
def test_what_cannot_be_meant_is_refused_at_once(
    daemon: LiveDaemon, built: str, quantize: str
) -> None:
    """A 400 before anything streams."""
    body = {"model": "x", "from": "q4", "quantize": quantize}
    assert daemon.call("POST", "/api/create", body)[0] == 400


def test_small_types_without_a_matrix_are_refused(
    daemon: LiveDaemon, smollm2_repository: Path, tmp_path: Path
) -> None:
    """The error says how to go on."""
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f"FROM {smollm2_repository}\nQUANTIZE IQ2_XS\nIMATRIX none\n")
    done = daemon.qm("create", "x", "-f", str(modelfile), limit_s=BUILD_LIMIT_S)
    assert done.returncode == 1
    assert "IQ2_XS needs an importance matrix" in done.stderr


def test_a_ladder_is_built_and_compared(
    daemon: LiveDaemon, built: str, smollm2_repository: Path, tmp_path: Path
) -> None:
    """Table, terminal chart and PNG; a second time only what was not built is built."""
    text, modelfile = tmp_path / "text.txt", tmp_path / "Modelfile"
    text.write_bytes(EVALUATION.data[:6000])
    modelfile.write_text(f"FROM {smollm2_repository}\n")
    made = daemon.qm("create", "full", "-f", str(modelfile), limit_s=BUILD_LIMIT_S)
    assert made.returncode == 0, made.stderr
    options = ("--text", str(text), "--imatrix", "none", "--chunks", "2")
    chart = ("--chart", str(tmp_path / "chart.png"))
    compare = ("compare", "full", "--types")
    done = daemon.qm(*compare, "Q4_0,Q8_0", *options, *chart, limit_s=BUILD_LIMIT_S)
    assert done.returncode == 0, done.stderr
    header, *rows = [line.split() for line in done.stdout.splitlines()[:4]]
    assert header == ["TYPE", "BPW", "SIZE", "PERPLEXITY", "KLD", "TOP-1", "MS/TOKEN"]
    assert [row[0] for row in rows] == ["Q4_0", "Q8_0", "BF16"]
    assert done.stdout.count("█") > 40
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    again = daemon.qm(*compare, "Q8_0", *options, "--json", limit_s=BUILD_LIMIT_S)
    assert "quantizing" not in again.stderr
    small, base = json.loads(again.stdout)
    assert (small["type"], base["type"]) == ("Q8_0", "BF16")
    assert 0 <= small["kld_mean"] < 0.01
    assert base["kld_mean"] is None
    assert small["ms_per_token"] > 0
    assert "full-q8_0" in daemon.qm("list", "--quality").stdout


def test_a_model_is_measured_and_the_result_kept(
    daemon: LiveDaemon, built: str, tmp_path: Path
) -> None:
    """Shown by qm show and qm list --quality; the weights stay the same."""
    text = tmp_path / "text.txt"
    text.write_bytes(EVALUATION.data[:6000])
    before = weights(daemon, "q4")
    done = daemon.qm("eval", "q4", "--text", str(text), "--json", limit_s=BUILD_LIMIT_S)
    assert done.returncode == 0, done.stderr
    quality = json.loads(done.stdout)
    assert 5 < quality["perplexity"] < 100
    assert quality["generated_tokens_per_s"] > 0
    assert 6 < quality["bits_per_weight"] < 6.5
    assert f"{quality['perplexity']:.4f}" in daemon.qm("show", "q4").stdout
    assert f"{quality['perplexity']:.4f}" in daemon.qm("list", "--quality").stdout
    assert weights(daemon, "q4") == before


def test_provenance_names_every_step(daemon: LiveDaemon, built: str) -> None:
    """Inputs by digest, tools with their versions."""
    shown = daemon.qm("show", "q4", "--provenance")
    assert "convert" in shown.stdout
    assert "llama-cpp-python/" in shown.stdout
    assert f"sha256:{weights(daemon, 'q4')}" in shown.stdout


def test_building_anew_gives_the_same_bytes(
    daemon: LiveDaemon, built: str, smollm2_repository: Path
) -> None:
    """QM_NO_BUILD_CACHE counts where qm create runs; another name changes nothing."""
    anew = replace(daemon, env={**daemon.env, "QM_NO_BUILD_CACHE": "1"})
    done = anew.qm("create", "anew", "--from", "q4", "-q", "Q8_0 requantize", limit_s=BUILD_LIMIT_S)
    again = anew.qm(
        "create", "anew2", "--from", "q4", "-q", "Q8_0 requantize", limit_s=BUILD_LIMIT_S
    )
    assert (done.returncode, again.returncode) == (0, 0)
    assert "using cached" not in again.stderr
    assert weights(daemon, "anew") == weights(daemon, "anew2")


def test_the_same_bytes_come_out_again(daemon: LiveDaemon, built: str) -> None:
    """Every step anew, without the cache."""
    done = daemon.qm("rebuild", "--check", "q4", "--json", limit_s=BUILD_LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    checked = json.loads(done.stdout)
    assert [step["kind"] for step in checked["steps"]] == ["convert", "quantize"]
    assert checked["same"] is True
    assert "converting model" in done.stderr


def test_a_repository_of_the_hub_becomes_a_model(daemon: LiveDaemon, hub: FakeHub) -> None:
    """Fetched, converted, quantised; where it comes from is on record."""
    done = daemon.qm("create", "h", "--from", "hf.co/org/smol", "-q", "Q8_0", limit_s=BUILD_LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert "pulling " in done.stderr
    made = daemon.json("POST", "/api/show", {"model": "h"})["qm"]["provenance"]
    assert made["repository"] == "hf.co/org/smol"
    assert len(made["commit"]) == 40
    assert [step["kind"] for step in made["steps"]] == ["convert", "quantize"]
    body = {"model": "h", "prompt": "Say hi.", "stream": False, "options": {"num_predict": 4}}
    assert daemon.json("POST", "/api/generate", body)["eval_count"] > 0
    fetched = hub.sent_bytes()
    assert (
        daemon.qm(
            "create", "h", "--from", "hf.co/org/smol", "-q", "Q8_0", limit_s=BUILD_LIMIT_S
        ).returncode
        == 0
    )
    assert hub.sent_bytes() == fetched


@pytest.mark.parametrize("kind", ["Q4_K_M", "IQ3_M"])
def test_small_types_of_the_hub_chat_sensibly(
    daemon: LiveDaemon, built: str, tmp_path: Path, kind: str
) -> None:
    """With an importance matrix that is computed, once for both, over a short text of ours."""
    (tmp_path / "text.txt").write_bytes(CALIBRATION.data[:12_000])
    file = tmp_path / "Modelfile"
    file.write_text(f"FROM hf.co/org/smol\nQUANTIZE {kind}\nIMATRIX auto\nCALIBRATION text.txt\n")
    done = daemon.qm("create", kind.lower(), "-f", str(file), limit_s=BUILD_LIMIT_S)
    assert done.returncode == 0, done.stderr
    body = {
        "model": kind.lower(),
        "messages": [{"role": "user", "content": "Name the capital city of France."}],
        "stream": False,
        "options": {"temperature": 0, "num_predict": 20},
    }
    assert "Paris" in daemon.json("POST", "/api/chat", body)["message"]["content"]
    steps = daemon.json("POST", "/api/show", {"model": kind.lower()})["qm"]["provenance"]["steps"]
    assert [step["kind"] for step in steps] == ["convert", "imatrix", "quantize"]


def test_another_directory_gives_the_same_weights(
    daemon: LiveDaemon, built: str, smollm2_repository: Path, tmp_path: Path
) -> None:
    """Built anew there: no path and no time is in the bytes."""
    shutil.copytree(smollm2_repository, tmp_path / "elsewhere/named", copy_function=os.link)
    anew = replace(daemon, env={**daemon.env, "QM_NO_BUILD_CACHE": "1"})
    file = tmp_path / "elsewhere/Modelfile"
    file.write_text("FROM ./named\nQUANTIZE Q4_K_M\nIMATRIX none\n")
    done = anew.qm("create", "moved", "-f", str(file), limit_s=BUILD_LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert "using cached" not in done.stderr
    assert weights(daemon, "moved") == weights(daemon, "q4")


def test_a_pull_may_quantise(daemon: LiveDaemon, hub: FakeHub) -> None:
    """A repository that has no GGUF is built under the name that pulling its quant type gives."""
    done = daemon.qm("pull", "hf.co/org/smol", "-q", "Q8_0", limit_s=BUILD_LIMIT_S)
    assert (done.returncode, done.stdout) == (0, "pulled 'hf.co/org/smol:Q8_0'\n"), done.stderr
    shown = daemon.json("POST", "/api/show", {"model": "hf.co/org/smol:Q8_0"})
    assert shown["details"]["quantization_level"] == "Q8_0"


def test_a_repository_that_is_not_there_is_named(daemon: LiveDaemon) -> None:
    """In the stream, as all that is found out later."""
    done = daemon.qm(
        "create", "x", "--from", "hf.co/org/nosuch", "-q", "Q8_0", limit_s=BUILD_LIMIT_S
    )
    assert done.returncode == 1
    assert "no repository org/nosuch" in done.stderr
