"""Options and log probabilities on Ollama's routes, with the real model behind them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ASKED = {"model": "smollm2", "prompt": "Count: 1 2 3", "raw": True, "stream": False}
GREEDY = {"temperature": 0, "num_predict": 4, "ignore_eos": True, "repeat_penalty": 1}


def ask(daemon: Any, options: dict[str, Any], **more: Any) -> Any:
    return daemon.json("POST", "/api/generate", ASKED | {"options": GREEDY | options} | more)


def test_log_probabilities_come_with_their_rivals(live_daemon: Any) -> None:
    """One entry a token, the likeliest rivals first; at temperature 0 the first is the choice."""
    answer = ask(live_daemon, {}, logprobs=True, top_logprobs=3)
    assert len(answer["logprobs"]) == answer["eval_count"] == 4
    for entry in answer["logprobs"]:
        rivals = [rival["logprob"] for rival in entry["top_logprobs"]]
        assert len(rivals) == 3
        assert rivals == sorted(rivals, reverse=True)
        assert entry["top_logprobs"][0]["token"] == entry["token"]
        assert 0 < sum(map(math.exp, rivals)) <= 1.000001
        assert bytes(entry["bytes"]).decode() == entry["token"]
    assert "".join(entry["token"] for entry in answer["logprobs"]) == answer["response"]
    plain = ask(live_daemon, {}, logprobs=True)
    assert all("top_logprobs" not in entry for entry in plain["logprobs"])
    assert "logprobs" not in ask(live_daemon, {})


def test_every_sampling_option_is_taken(live_daemon: Any) -> None:
    """Each in its range changes nothing of the form, and the same seed gives the same text."""
    options = {
        **{"temperature": 0.7, "seed": 3, "top_k": 20, "top_p": 0.8, "min_p": 0.05},
        **{"typical_p": 0.9, "repeat_last_n": 32, "repeat_penalty": 1.1},
        **{"presence_penalty": 0.5, "frequency_penalty": 0.5, "dry_multiplier": 0.8},
        **{"xtc_probability": 0.1, "xtc_threshold": 0.2},
    }
    ask(live_daemon, options)  # from now on the prompt is in the cache: the batches are the same
    first, second = ask(live_daemon, options), ask(live_daemon, options)
    assert first["response"] == second["response"]
    for version in (1, 2):
        wanted = {"temperature": 0.7, "mirostat": version, "mirostat_tau": 3.0, "mirostat_eta": 0.2}
        assert ask(live_daemon, wanted)["eval_count"] == 4


def test_a_bias_decides(live_daemon: Any) -> None:
    """And a foreign token in it is refused."""
    biased = ask(live_daemon, {"logit_bias": {"28": 100}}, logprobs=True)
    assert len({entry["token"] for entry in biased["logprobs"]}) == 1
    body = ASKED | {"options": GREEDY | {"logit_bias": {"99999999": 1}}}
    status, data = live_daemon.call("POST", "/api/generate", body)
    assert (status, "99999999" in json.loads(data)["error"]) == (400, True)


def test_a_small_num_ctx_holds_on_a_runner_with_more(live_daemon: Any) -> None:
    """It is not loaded anew, and the same request means the same whoever asked before."""
    ask(live_daemon, {})
    pid = _pid(live_daemon)
    prompt, small = "word " * 200, GREEDY | {"num_ctx": 64}
    body = ASKED | {"prompt": prompt, "options": small}
    status, data = live_daemon.call("POST", "/api/generate", body)
    assert (status, "more than the context of 64 tokens" in json.loads(data)["error"]) == (
        400,
        True,
    )
    cut = live_daemon.json("POST", "/api/generate", body | {"truncate": True})
    assert cut["prompt_eval_count"] < 64
    assert cut["eval_count"] == GREEDY["num_predict"]
    assert ask(live_daemon, {}, prompt=prompt)["prompt_eval_count"] > 200
    assert _pid(live_daemon) == pid


def _pid(daemon: Any) -> int:
    rows = daemon.json("GET", "/api/ps")["models"]
    (pid,) = [row["qm"]["pid"] for row in rows if row["model"] == "smollm2:latest"]
    assert isinstance(pid, int)
    return pid
