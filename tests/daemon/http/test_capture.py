"""Captured requests: a ring of private files that hold no secrets."""

from __future__ import annotations

import http.client
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qm.daemon.http.capture import Captures, body_of, redacted

IMAGE = "iVBORw0KGgo" * 100
KEY = "qm_" + "-aB3_" * 8  # as `qm key add` makes them


def test_the_ring_keeps_the_latest(tmp_path: Path) -> None:
    """Files of this user alone, in a folder of this user alone."""
    captures, directory = Captures(), tmp_path / "captures"
    for number in range(5):
        captures.keep({"n": number}, directory, 3)
    files = sorted(directory.iterdir())
    assert [json.loads(file.read_text())["n"] for file in files] == [3, 4, 2]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in files}
    assert modes == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"Authorization": "Bearer a", "A": "x"}, {"Authorization": "<hidden>", "A": "x"}),
        ({"X-Api-Key": "abc", "Cookie": "a=b"}, {"X-Api-Key": "<hidden>", "Cookie": "<hidden>"}),
        ({"a": [{"access_token": "t", "max_tokens": 5}]},
         {"a": [{"access_token": "<hidden>", "max_tokens": 5}]}),
        ("my key is sk-abcdefghijklmnop, keep it", "my key is <hidden>, keep it"),
        ("hf_abcdefghijklmnopqrst", "<hidden>"),
        ({"messages": [{"content": f"I pasted {KEY}."}]},
         {"messages": [{"content": "I pasted <hidden>."}]}),
        ({KEY: f"the_{KEY}"}, {"<hidden>": "the_<hidden>"}),
        ({"X-Odd": "caf\udce9"}, {"X-Odd": "caf\ufffd"}),  # a header that is no UTF-8
        ({"images": [IMAGE]}, {"images": ["<1100 characters of data>"]}),
        (f"data:image/png;base64,{IMAGE}", "data:image/png;base64,<1100 characters of data>"),
        ({"images": ["QUFB"], "token": "t"},
         {"images": ["<4 characters of data>"], "token": "<hidden>"}),
        ({"url": "data:image/png;base64,QUE="},
         {"url": "data:image/png;base64,<4 characters of data>"}),
        ({"type": "base64", "data": "QUFB"}, {"type": "base64", "data": "<4 characters of data>"}),
        ({"type": "text", "data": "words"}, {"type": "text", "data": "words"}),
        ({"type": "input_audio", "input_audio": {"data": "QUFB", "format": "wav"}},
         {"type": "input_audio",
          "input_audio": {"data": "<4 characters of data>", "format": "wav"}}),
        ({"content": "Why is the sky blue?"}, {"content": "Why is the sky blue?"}),
    ],
)  # fmt: skip
def test_secrets_and_images_are_left_out(value: Any, kept: Any) -> None:
    assert redacted(value) == kept


def test_bodies() -> None:
    """Documents where they are some, else text; of what is large or packed only the size."""
    assert body_of(b'{"a": {"password": "x"}}') == {"a": {"password": "<hidden>"}}
    assert body_of(b"") is None
    assert body_of(b"{broken sk-abcdefghijklmnop") == "{broken <hidden>"
    assert body_of(b'{"a": "\xff"}') == '{"a": "\ufffd"}'
    assert body_of(b"[" * 5000) == "[" * 5000
    assert body_of(b'"' + b"word " * 300_000 + b'"') == "<1500002 bytes>"
    assert body_of(b"\x1f\x8b", "gzip") == "<2 bytes of gzip>"
    assert body_of(json.dumps([IMAGE * 1000]).encode()) == ["<1100000 characters of data>"]


@pytest.mark.slow
def test_a_daemon_captures_when_it_is_told_to(start_daemon: Callable[..., Any]) -> None:
    """`qm status` says where; without the setting nothing is kept."""
    daemon = start_daemon(QM_CAPTURE="2")
    directory = Path(daemon.json("GET", "/qm/status")["captures"])
    assert str(directory) in daemon.qm("status").stdout
    connection = http.client.HTTPConnection(daemon.json("GET", "/qm/status")["host"], timeout=60)
    for number in range(3):
        body = json.dumps({"model": f"m{number}", "messages": [], "images": [IMAGE]})
        headers = {"Authorization": "Bearer sesame", "X-Request-Id": f"r{number}"}
        connection.request("POST", "/api/chat?api_key=sesame", body, headers)
        connection.getresponse().read()
    connection.close()
    texts = [file.read_text() for file in directory.iterdir()]
    told = {document["id"]: document for document in map(json.loads, texts)}
    assert told.keys() == {"r1", "r2"}
    assert (told["r2"]["status"], told["r2"]["body"]["model"]) == (404, "m2")
    assert not any("sesame" in text or IMAGE in text for text in texts)
    silent = start_daemon()
    silent.call("POST", "/api/chat", {"model": "m"})
    assert silent.json("GET", "/qm/status")["captures"] is None
    assert not (silent.home / "captures").exists()
