"""A real Ollama's recorded answers, asked of qm again: nothing differs that is not explained.

`golden/*.jsonl` holds what was asked and answered, `golden/differences.json` every case in which
qm means to answer otherwise, with the reason and what it answers instead. Times, names and the
words of the model vary; compared are status, content type, error texts, which fields there are
and their types, their order in a stream, and how many tokens a prompt has.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
from pathlib import Path
from typing import Any, TypeAlias

import pytest

GOLDEN = Path(__file__).parent / "golden"
Case: TypeAlias = dict[str, Any]  # Any: a recorded JSON document


# What changes models comes where it doesn't change the others' answers.
FILES = (
    *("version", "status", "blobs", "delete", "copy", "chat", "push", "pull"),
    *("generate", "embed", "embeddings", "ps", "show", "tags", "create"),
    *("openai-chat", "openai-completions", "openai-embeddings", "openai-models", "openai-audio"),
    *("openai-responses", "anthropic-messages", "other"),
)


def recorded() -> list[Case]:
    texts = ((GOLDEN / f"{name}.jsonl").read_text() for name in FILES)
    return [json.loads(line) for text in texts for line in text.splitlines()]


CASES = {case["case"]: case for case in recorded()}
DIFFERENCES: dict[str, Case] = json.loads((GOLDEN / "differences.json").read_text())
# Brought about by `PREPARE` before the case is asked.
COPY = ("POST", "/api/copy", {"source": "smol", "destination": "smolcopy"})
BLOB = (
    "POST",
    "/api/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
)
PREPARE: dict[str, tuple[Any, ...]] = {
    "delete_ok": COPY,
    "blob_post_again_small": BLOB,
    "blob_post_dash_form": BLOB,
    "blob_head_dash_form": BLOB,
}
LOADED = ("POST", "/api/generate", {"model": "smol"})
PREPARE |= {name: LOADED for name in CASES if name.endswith("_ps") or name.startswith("ps_")}
# Compared as they are; the rest of what is dynamic only by type.
EXACT = ("error", "done", "done_reason", "role", "prompt_eval_count", "version", "format", "family")
# Extra fields of ours: `reasoning_content` is how other servers call `reasoning`.
# `prompt_tokens_details` is OpenAI's own.
OURS = (
    *("qm", "reasoning_content", "draft_count", "draft_accepted_count", "signature"),
    "prompt_tokens_details",
)


def test_every_difference_belongs_to_a_case() -> None:
    """An explanation whose case is gone explains nothing."""
    assert DIFFERENCES.keys() <= CASES.keys()
    assert all(difference["why"] for difference in DIFFERENCES.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in CASES if "skip" not in DIFFERENCES.get(n, {})])
def test_answers_as_recorded(golden_daemon: Any, smollm2_gguf: Path, name: str) -> None:
    """The recorded answer, or the one that is explained."""
    if name in PREPARE:
        prepare(golden_daemon, *PREPARE[name])
    expected, difference = CASES[name]["response"], DIFFERENCES.get(name, {})
    asked = greedy(CASES[name]["request"], expected)
    status, headers, body = ask(golden_daemon, asked, smollm2_gguf)
    assert status == difference.get("status", expected["status"]), body[:500]
    if "contains" in difference:
        assert difference["contains"] in body.decode()
    if difference.get("only_status") or "contains" in difference:
        return
    wanted = expected["headers"].get("Content-Type", "")
    assert headers.get("Content-Type", "").removesuffix("; charset=utf-8") == wanted.removesuffix(
        "; charset=utf-8"
    )
    for header in ("Access-Control-Allow-Origin", "Vary"):
        if header in expected["headers"]:
            assert headers.get(header), header
    compare(expected, body, frozenset(difference.get("fields", ())))


def prepare(daemon: Any, method: str, path: str, document: Case | None = None) -> None:
    if document is not None:
        assert daemon.call(method, path, document)[0] == 200
        return
    assert send(daemon, method, path, {}, b"hello")[0] in (200, 201)


def greedy(request: Case, expected: Case) -> Case:
    """The request, without chance where it cut the recorded answer: ours might end before that."""
    body = request.get("body")
    if expected.get("json", {}).get("done_reason") != "length" or not isinstance(body, dict):
        return request
    options = body.get("options", {})
    if not isinstance(options, dict) or {"temperature", "seed"} & options.keys():
        return request
    return {**request, "body": {**body, "options": {**options, "temperature": 0}}}


def ask(daemon: Any, request: Case, gguf: Path) -> tuple[int, dict[str, str], bytes]:
    """Asks over TCP what was recorded."""
    if "body" in request:
        body = json.dumps(request["body"]).encode()
    else:
        body = raw_body(request.get("raw", ""), gguf)
    return send(daemon, request["method"], request["path"], request.get("headers", {}), body)


def raw_body(text: str, gguf: Path) -> bytes:
    """Recordings name large bodies by their size; the five bytes were "hello"."""
    if text == f"<{gguf.stat().st_size} bytes>":
        return gguf.read_bytes()
    return {"<0 bytes>": b"", "<5 bytes>": b"hello"}.get(text, text.encode())


def send(
    daemon: Any, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    host = daemon.json("GET", "/qm/status")["host"]
    connection = http.client.HTTPConnection(host, timeout=120)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():  # the recorded server's port was 11500
            connection.putheader(name, value.replace("127.0.0.1:11500", host))
        if body or method != "GET":
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        # answered before the body was read, as for a blob that is there already
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(body)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def compare(expected: Case, body: bytes, free: frozenset[str]) -> None:
    """Asserts that the answer has the recorded form; fields in `free` may differ."""
    if "json" in expected:
        assert form(json.loads(body), free) == form(expected["json"], free)
    elif "lines" in expected:
        compare_streams(expected["lines"], body.decode().splitlines(), free)
    else:
        assert body.decode() == expected.get("body", "")


def compare_streams(theirs: list[str], ours: list[str], free: frozenset[str]) -> None:
    """The same forms in the same order; of a recording cut in its middle, both ends."""
    mine = distinct([form(piece, free) for piece in pieces(ours)])
    cut = next((i for i, line in enumerate(theirs) if line.startswith("... ")), len(theirs))
    ends = [pieces(theirs[:cut]), pieces(theirs[cut:])]
    head, tail = (distinct([form(piece, free) for piece in end]) for end in ends)
    if not tail or head[-1] == tail[0]:
        assert mine == distinct(head + tail)
    else:
        assert (mine[: len(head)], mine[-len(tail) :]) == (head, tail)


def pieces(lines: list[str]) -> list[Any]:
    """The documents of a stream: lines of JSON, or of server-sent events with their names."""
    found: list[Any] = []
    for line in lines:
        text = line.strip().removeprefix("data: ")
        if text.startswith("{"):
            found.append(json.loads(text))
        elif text == "[DONE]" or text.startswith("event: "):
            found.append({"error": text})
    return found


def distinct(forms: list[Any]) -> list[Any]:
    """A stream's forms without repetitions: how many pieces there are varies."""
    return [form for form, _ in itertools.groupby(forms)]


def form(value: Any, free: frozenset[str]) -> Any:
    """What is compared of a JSON value: names and types, and the values of `EXACT` fields."""
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if name not in OURS}
        return {
            name: "free" if name in free else item if name in EXACT else form(item, free)
            for name, item in sorted(kept.items())
        }
    if isinstance(value, list):
        return [form(value[0], free)] if value else []
    if isinstance(value, bool) or value is None:
        return str(type(value))
    return "number" if isinstance(value, int | float) else "text"
