"""What open connections cost the daemon, and how soon a client that leaves frees its slot."""

from __future__ import annotations

import calendar
import http.client
import json
import re
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

from .scenarios import Figures
from .servers import Qm

OPEN: Final = 500
BUDGET_MIB: Final = 60.0
_BEGUN_PIECES: Final = 12
_BEGUN_S: Final = 0.4  # until an answer that isn't streamed is surely under way
_LIMIT_S: Final = 60.0
_STORY: Final = "Write a very long story about a river, a mountain and the sea."
_TURNS: Final = [{"role": "user", "content": _STORY}]
_NATIVE: Final = {"options": {"num_predict": 5000, "ignore_eos": True}}
DIALECTS: Final[dict[str, dict[str, Any]]] = {
    "/api/chat": {"messages": _TURNS, **_NATIVE},
    "/api/generate": {"prompt": _STORY, **_NATIVE},
    "/v1/chat/completions": {"messages": _TURNS, "max_tokens": 5000},
    "/v1/completions": {"prompt": "One, two, three, four, five,", "max_tokens": 5000},
    "/v1/responses": {"input": _STORY, "max_output_tokens": 5000},
    "/v1/messages": {"messages": _TURNS, "max_tokens": 5000},
}
PIECE: Final = re.compile(
    rb'"done":false|"delta":\{[^}]*"content":"[^"]|"text":"[^"][^}]*"finish_reason":null'
    rb'|^data: .*response\.output_text\.delta|^data: .*"text_delta"'
)
_ABANDONED: Final = re.compile(r"time=(\S+)\.(\d{3})Z .*event=answer_abandoned .*tokens=(\d+)")


def waiting_streams(server: Qm) -> Figures:
    """Streams that wait for the one slot: what all of them add to the daemon's memory."""
    before = _resident_mib(pid := int(_get(server, "/qm/status")["pid"]))
    with ExitStack() as stack:
        for _ in range(OPEN):
            client = stack.enter_context(closing(_ask(server, "/api/chat", stream=True)))
            client.settimeout(_LIMIT_S)
        _until(lambda: _held(server) == OPEN, "all streams are open")
        return Figures({"MiB of 500 streams that wait": _resident_mib(pid) - before})


def idle_connections(server: Qm) -> Figures:
    """Connections that are kept alive after a streamed answer each."""
    before = _resident_mib(pid := int(_get(server, "/qm/status")["pid"]))
    few = {"messages": _TURNS, "options": {"num_predict": 1}, "model": server.models[0]}
    with ExitStack() as stack:
        for _ in range(OPEN):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_LIMIT_S)
            stack.enter_context(closing(connection))
            connection.request("POST", "/api/chat", json.dumps(few))
            connection.getresponse().read()
            assert connection.sock is not None, "the daemon closed it"
        return Figures({"MiB of 500 idle connections": _resident_mib(pid) - before})


def leaving(server: Qm, path: str, *, stream: bool) -> tuple[float, int]:
    """Seconds until the slot of a client is free that left; tokens that it was not sent."""
    log = Path(_get(server, "/qm/status")["log"])
    seen, known = 0, len(_abandoned(log))
    with closing(_ask(server, path, stream=stream)) as client:
        if stream:
            lines = client.makefile("rb")
            while seen < _BEGUN_PIECES:
                seen += bool(PIECE.search(lines.readline()))
            lines.close()
        else:
            _until(lambda: _held(server) == 1, "the answer is under way")
            time.sleep(_BEGUN_S)
    left_s = time.time()
    _until(lambda: len(_abandoned(log)) > known, "the runner told of its end")
    over_s, tokens = _abandoned(log)[-1]
    return max(over_s - left_s, 0.0), tokens - seen if stream else 0


def token_s(server: Qm) -> float:
    """The time of one token of an answer that has the machine for itself."""
    return server.answer(_STORY, 64).token_s


def _ask(server: Qm, path: str, *, stream: bool) -> socket.socket:
    body = {"model": server.models[0], "temperature": 0, "stream": stream, **DIALECTS[path]}
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
    client = socket.create_connection(("127.0.0.1", server.port), _LIMIT_S)
    client.sendall(head.encode() + data)
    return client


def _held(server: Qm) -> int:
    """Requests that run or wait."""
    text = _fetch(server, "/metrics").decode()
    return sum(int(n) for n in re.findall(r"^qm_requests_(?:running|waiting) (\d+)$", text, re.M))


def _get(server: Qm, path: str) -> Any:  # Any: a JSON document
    return json.loads(_fetch(server, path))


def _fetch(server: Qm, path: str) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=_LIMIT_S)) as asking:
        asking.request("GET", path)
        return asking.getresponse().read()


def _abandoned(log: Path) -> list[tuple[float, int]]:
    """When the answers ended that nobody waited for, and how many tokens they had."""
    return [
        (calendar.timegm(time.strptime(at, "%Y-%m-%dT%H:%M:%S")) + int(ms) / 1000, int(tokens))
        for at, ms, tokens in _ABANDONED.findall(log.read_text())
    ]


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def _until(holds: Any, what: str) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"never came: {what}")
        time.sleep(0.02)
