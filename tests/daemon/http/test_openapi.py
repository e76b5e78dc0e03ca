"""`/openapi.json` is true: it has every route, and live answers are as it says.

`QM_FUZZ_EXAMPLES=200 pytest tests/daemon/http/test_openapi.py` lets Schemathesis try harder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are one more package
import pytest
from qm.daemon.http.openapi import openapi_document, told_methods, told_path
from qm.daemon.http.routes import spoken

CONFIG = Path(__file__).parents[3] / "schemathesis.toml"
TURNS = [{"role": "user", "content": "Hi"}]
FEW = {"num_predict": 2}
ASKED: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", "/api/chat", {"messages": TURNS, "stream": False, "options": FEW}),
    ("POST", "/api/generate", {"prompt": "Hi", "stream": False, "options": FEW}),
    ("POST", "/api/tokenize", {"text": "Hi"}),
    ("POST", "/api/detokenize", {"tokens": [1]}),
    ("GET", "/api/tags", None),
    ("GET", "/api/ps", None),
    ("POST", "/api/show", {}),
    ("GET", "/api/version", None),
    ("GET", "/api/status", None),
    ("GET", "/health", None),
    ("GET", "/openapi.json", None),
    ("GET", "/v1/models", None),
    ("POST", "/v1/chat/completions", {"messages": TURNS, "max_tokens": 2}),
    ("POST", "/v1/completions", {"prompt": "Hi", "max_tokens": 2}),
    ("POST", "/v1/responses", {"input": "Hi", "max_output_tokens": 2}),
    ("POST", "/v1/messages", {"messages": TURNS, "max_tokens": 2}),
    ("POST", "/v1/messages/count_tokens", {"messages": TURNS}),
    # and what is refused
    ("POST", "/api/chat", {"messages": 3}),
    ("POST", "/v1/chat/completions", {"messages": []}),
    ("POST", "/v1/responses", {"input": 3}),
    ("POST", "/v1/messages", {"messages": []}),
    ("POST", "/v1/embeddings", {"input": "x"}),
    ("POST", "/v1/rerank", {"query": "x", "documents": ["y"]}),
]


def test_every_route_is_told() -> None:
    """The document has each route that there is; those of our own command line are no API."""
    routes = {
        (method, told_path(route))
        for dialect in spoken()
        for route in dialect.routes
        for method in told_methods(route)
    }
    document = openapi_document(spoken(), "1")
    told = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert told == {route for route in routes if not route[1].startswith("/qm/")}


def test_what_loads_a_model_may_fail() -> None:
    """A dying runner is no client's fault: the document tells its status wherever one is needed."""
    paths = openapi_document(spoken(), "1")["paths"]
    for method, path, body in ASKED:
        if method == "POST" and body is not None:
            assert "500" in paths[path]["post"]["responses"], path
    assert "500" not in paths["/api/version"]["get"]["responses"]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "body"), ASKED)
def test_live_answers_are_as_told(
    live_daemon: Any, method: str, path: str, body: dict[str, Any] | None
) -> None:
    document = live_daemon.json("GET", "/openapi.json")
    asked = None if body is None else {"model": "smollm2", **body}
    status, data = live_daemon.call(method, path, asked)
    operation = document["paths"][path][method.lower()]
    told = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    jsonschema.validate(json.loads(data), told | {"components": document["components"]})


EXAMPLES = os.environ.get("QM_FUZZ_EXAMPLES", "3")
PHASES = "fuzzing,stateful" if EXAMPLES == "3" else "examples,coverage,fuzzing,stateful"
# pulls and pushes would go out to the network; creating and deleting is others' model
ELSEWHERE = "^/api/(pull|push|create|copy|delete|blobs)|^/v1/audio"


@pytest.mark.slow
def test_schemathesis_finds_nothing(live_daemon: Any, tmp_path: Path) -> None:
    """No 500, no undocumented status, content type or shape, for requests good and bad."""
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(narrowed(live_daemon.json("GET", "/openapi.json"))))
    conformance = [
        f"{what}_conformance" for what in ("status_code", "content_type", "response_schema")
    ]
    checks = ",".join(["not_a_server_error", *conformance])
    tried(live_daemon, file, "--checks", checks, "--phases", "fuzzing")


@pytest.mark.slow
def test_schemathesis_finds_nothing_by_its_own_checks(
    start_daemon: Callable[..., Any], tmp_path: Path
) -> None:
    """What fits the document is taken, what doesn't is refused, as anybody would try it.

    The daemon has no models: Schemathesis finds their names, and would have them write for hours.
    """
    daemon = start_daemon()
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(daemon.json("GET", "/openapi.json")))
    tried(daemon, file, "--phases", PHASES)


def tried(daemon: Any, document: Path, *options: str) -> None:
    """Lets Schemathesis at a daemon; what it finds fails the test."""
    usual = {
        "--url": f"http://{daemon.json('GET', '/qm/status')['host']}",
        "--exclude-path-regex": ELSEWHERE,
        "--max-examples": EXAMPLES,
        "--seed": os.environ.get("QM_FUZZ_SEED", "1"),
        "--request-timeout": "60",
        "--suppress-health-check": "all",
    }
    words = [word for pair in usual.items() for word in pair]
    schemathesis = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)]
    done = subprocess.run(
        [*schemathesis, "run", str(document), "--no-color", *words, *options],
        cwd=document.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def narrowed(document: Any) -> Any:
    """The same document with models that are here, or known not to be, and short answers."""
    few = {"type": "object", "properties": {"num_predict": {"enum": [1, 2]}}}
    bounds: dict[str, Any] = {
        "max_tokens": {"enum": [1, 2]},
        "max_output_tokens": {"enum": [1, 2]},
        "options": few | {"required": ["num_predict"]},
    }
    schemas = document["components"]["schemas"].values()
    for schema in [each for one in schemas for each in one.get("anyOf", [one])]:
        fields = schema.get("properties", {})
        if "model" in fields:
            fields["model"] = {"enum": ["smollm2", "nosuch"]}
        for name in bounds.keys() & fields.keys():
            fields[name] = bounds[name]
            schema["required"] = sorted({*schema["required"], name})
    return document
