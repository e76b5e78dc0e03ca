"""`/v1/rerank`, with a ranking model behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import create

pytestmark = pytest.mark.slow
RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "minilm/vectors.json").read_text()
)
TEXTS = [text for text in RECORDED["texts"][:6] if text]
ASKED = {"model": "ranker", "query": RECORDED["query"], "documents": TEXTS}


@pytest.fixture(scope="module")
def daemon(start_module_daemon: Callable[..., Any], ranking_gguf: Path, minilm_gguf: Path) -> Any:
    made = start_module_daemon()
    create(made, "ranker", ranking_gguf)
    create(made, "minilm", minilm_gguf)
    return made


def test_the_best_document_comes_first(daemon: Any) -> None:
    """By the scores that transformers calculates; `index` is the place in the request."""
    scores = dict(zip(RECORDED["texts"], RECORDED["scores"], strict=True))
    answer = daemon.json("POST", "/v1/rerank", ASKED)
    order = [TEXTS[result["index"]] for result in answer["results"]]
    assert order == sorted(TEXTS, key=lambda text: -scores[text])
    for result in answer["results"]:
        assert abs(result["relevance_score"] - scores[TEXTS[result["index"]]]) < 0.05
    assert answer["usage"]["total_tokens"] > 20


def test_the_best_few_with_their_texts(daemon: Any) -> None:
    """Documents may be objects, as Cohere's clients send them."""
    documents = [{"text": text} for text in TEXTS]
    wanted = ASKED | {"documents": documents, "top_n": 2, "return_documents": True}
    answer = daemon.json("POST", "/v1/rerank", wanted)
    assert len(answer["results"]) == 2
    assert all(TEXTS[r["index"]] == r["document"]["text"] for r in answer["results"])


@pytest.mark.parametrize(
    ("changed", "status", "reason"),
    [
        ({"query": ""}, 400, "query is required"),
        ({"documents": []}, 400, "documents must be"),
        ({"documents": [1]}, 400, "documents[0] must be a text"),
        ({"top_n": 0}, 400, "top_n must be positive"),
        ({"model": "none"}, 404, "not found"),
        ({"model": "minilm"}, 501, "can't rank"),
        (
            {"documents": ["a", "a " * 600], "truncate": False},
            400,
            "tokens with the query, more than the 512 that",
        ),
    ],
)
def test_what_is_refused(daemon: Any, changed: Any, status: int, reason: str) -> None:
    code, body = daemon.call("POST", "/v1/rerank", ASKED | changed)
    assert (code, reason in json.loads(body)["error"]["message"]) == (status, True), body


def test_a_ranking_model_makes_no_vectors(daemon: Any) -> None:
    asked = {"model": "ranker", "input": "text"}
    status, body = daemon.call("POST", "/api/embed", asked)
    assert (status, "ranks texts" in json.loads(body)["error"]) == (501, True)
