"""The ways in which servers of this kind were attacked, each tried on a live daemon.

One test a class of attack. `ELSEWHERE` names the tests of the classes that are not about HTTP, and
those of what is shown here that go further. After every test the daemon must be the same process,
and answer.
"""

from __future__ import annotations

import ast
import gzip
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import create, digest_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
LIMIT_S = 60
ELSEWHERE = {
    "repository file names that lead out": "tests/store/pull/test_choose.py",
    "tokens sent to another host": "tests/store/pull/test_tokens.py",
    "server-side request forgery in pulls": "tests/store/pull/test_addresses.py",
    "manifests that are too much": "tests/store/test_manifests_refused.py",
    "GGUF files that lie": "tests/store/test_gguf.py",
    "templates that loop or fill memory": "tests/daemon/chat/test_render.py",
    "schemas and grammars that explode": "tests/daemon/runner/test_schema_limits.py",
    "push of what does not match its digest": "tests/store/pull/test_oci.py",
    "keys, TLS, slow and odd requests": "tests/daemon/test_tcp_guard.py",
    "Host, Origin and preflight rules": "tests/daemon/http/test_guard.py",
    "a stream that is never read": "tests/daemon/http/test_guard.py",
    "remote devices by request": "tests/offload/test_rpc.py",
}
Ask = Callable[..., tuple[int, bytes]]


@pytest.fixture(scope="module")
def daemon(start_module_daemon: Callable[..., Any], smollm2_gguf: Path) -> Any:
    """A daemon with one model, 256 tokens of context and bodies of at most a megabyte."""
    started = start_module_daemon(
        QM_MAX_BODY_BYTES="1MiB", QM_READ_TIMEOUT="2s", QM_CONTEXT_LENGTH="256"
    )
    create(started, "smol", smollm2_gguf)
    return started


@pytest.fixture
def ask(daemon: Any) -> Iterator[Ask]:
    """Asks over TCP; afterwards the daemon must be well, and nothing new beside its folder."""
    host = daemon.json("GET", "/qm/status")["host"]

    def asking(
        method: str, path: str, body: object = None, raw: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(host, timeout=LIMIT_S)
        data = raw if raw is not None else json.dumps(body or {}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.putrequest(method, path, skip_host="Host" in named)
            for name, value in (named | {"Content-Length": str(len(data))}).items():
                connection.putheader(name, value)
            connection.endheaders(data)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    before = outside(daemon.home)
    yield asking
    assert daemon.process.poll() is None
    few = {"model": "smol", "prompt": "Hi", "stream": False, "options": {"num_predict": 1}}
    assert daemon.call("POST", "/api/generate", few)[0] == 200
    assert outside(daemon.home) == before


def outside(home: Path) -> set[str]:
    """What lies beside the daemon's folder under a name that a test may have made."""
    return {path.name for path in home.parent.iterdir() if "qmthreat" in path.name}


def test_the_other_classes_have_their_tests() -> None:
    """Nobody can drop a file that proves a row without noticing."""
    for name, path in ELSEWHERE.items():
        tree = ast.parse((ROOT / path).read_text())
        functions = [node for node in ast.walk(tree) if hasattr(node, "name")]
        assert any(node.name.startswith("test_") for node in functions), name


DIGESTS = ("sha256:../../qmthreat", "sha256:" + "A" * 64, "sha256:" + "a" * 63,
           "sha256:" + "a" * 65, "sha256:" + "a" * 64 + "\n", "md5:" + "a" * 64, "",
           "/etc/passwd")  # fmt: skip
NAMES = ("../qmthreat", "a/../../qmthreat", "a:../b", "/etc/passwd", "a\x00b", "a b", "a\\b", ".",
         "..", "x" * 200, ";touch qmthreat", "--rpc=h", "$(touch qmthreat)", "`id`", "|id", "-m",
         "ü", "a//b")  # fmt: skip


@pytest.mark.parametrize("digest", DIGESTS)
def test_digests_lead_nowhere_else(ask: Ask, digest: str) -> None:
    """Traversal: a digest is 64 hexadecimal digits or refused, on every route that takes one."""
    quoted = "".join(f"%{byte:02x}" for byte in digest.encode())
    for method in ("HEAD", "POST"):
        assert ask(method, f"/api/blobs/{quoted}", raw=b"x")[0] in (400, 404, 405)


@pytest.mark.parametrize("field", ["files", "adapters"])
def test_digests_of_a_build_lead_nowhere_else(ask: Ask, field: str) -> None:
    """The same where they come in a document."""
    made = {"model": "x", "from": "smol", field: {"a.gguf": DIGESTS[0]}, "stream": False}
    assert ask("POST", "/api/create", made)[0] in (400, 404)


@pytest.mark.parametrize("name", NAMES)
def test_names_lead_nowhere_else(ask: Ask, name: str) -> None:
    """Traversal and command injection: a name that is none is refused on every route."""
    turns = [{"role": "user", "content": "x"}]
    for method, path, body in (
        ("POST", "/api/pull", {"model": name, "stream": False}),
        ("POST", "/api/push", {"model": name, "stream": False}),
        ("POST", "/api/show", {"model": name}),
        ("POST", "/api/generate", {"model": name, "prompt": "x"}),
        ("POST", "/api/embed", {"model": name, "input": "x"}),
        ("POST", "/api/copy", {"source": "smol", "destination": name}),
        ("POST", "/api/copy", {"source": name, "destination": "x"}),
        ("POST", "/api/create", {"model": name, "from": "smol", "stream": False}),
        ("DELETE", "/api/delete", {"model": name}),
        ("POST", "/v1/chat/completions", {"model": name, "messages": turns}),
        ("POST", "/v1/messages", {"model": name, "messages": turns, "max_tokens": 1}),
    ):
        status, answered = ask(method, path, body)
        assert status in (400, 403, 404), (path, status, answered)


def test_files_of_the_machine_stay_unread(ask: Ask, tmp_path: Path) -> None:
    """Disclosure: create takes digests, never paths, and says the same of what is not there."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for there, missing in (("/etc/passwd", "/etc/passwx"), (str(fifo), str(fifo)[:-1] + "p")):
        told = []
        for path in (there, missing):
            made = {"model": "x", "from": path, "stream": False}
            status, answered = ask("POST", "/api/create", made)
            told.append((status, answered.replace(path.encode(), b"PATH")))
            assert ask("POST", "/qm/adopt", {"path": path})[0] == 403, "over the socket only"
        assert told[0] == told[1]
        assert told[0][0] == 400


def test_pickles_are_opened_for_this_user_only(ask: Ask) -> None:
    """Nobody else may have them opened, confined or not."""
    body = {"model": "x", "from": "hf.co/org/x", "allow_pickle": True, "stream": False}
    status, answered = ask("POST", "/api/create", body)
    assert (status, b"unix socket" in answered) == (403, True)


def test_archives_are_no_models(ask: Ask, daemon: Any) -> None:
    """Archive slip: nothing is ever unpacked."""
    archive = b"PK\x03\x04" + b"\0" * 26 + b"../qmthreat" + b"x" * 50
    path = daemon.home / "archive.zip"
    path.write_bytes(archive)
    status, lines = daemon.call("POST", "/qm/adopt", {"path": str(path)})
    if status == 200 and b'"digest"' in lines:
        files = {"a.zip": f"sha256:{digest_of(lines)}"}
        made = {"model": "x", "files": files, "stream": False}
        assert ask("POST", "/api/create", made)[0] == 400


@pytest.mark.parametrize("path", ["/api/delete", "/api/copy", "/api/generate", "/v1/messages"])
def test_pages_can_not_act(ask: Ask, path: str) -> None:
    """Rebinding and forged requests: strange names, strange pages, and what needs no preflight."""
    method = "DELETE" if path == "/api/delete" else "POST"
    body = {"model": "smol", "source": "smol", "destination": "stolen"}
    for host in ("evil.com", "evil.com:11434", "127.0.0.1.evil.com", "localhost.evil.com"):
        assert ask(method, path, body, Host=host) == (403, b"")
    for origin in (
        "https://evil.com",
        "null",
        "http://127.0.0.1.evil.com",
        "http://localhost@e.com",
    ):
        assert ask(method, path, body, Origin=origin, Content_Type="application/json")[0] == 403
    for extra in ({"Origin": "http://localhost:3000"}, {"Sec_Fetch_Site": "cross-site"}):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            assert ask(method, path, body, Content_Type=kind, **extra)[0] == 415
    assert b"stolen" not in ask("GET", "/api/tags")[1]
    assert b"smol" in ask("GET", "/api/tags")[1]
    form = "application/x-www-form-urlencoded"  # which `curl -d` sends
    assert ask("POST", "/api/show", {"model": "smol"}, Content_Type=form)[0] == 200


def test_nobody_listens_to_the_world_without_a_key(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QM_")}
    own = {"QM_HOME": str(tmp_path / "home"), "QM_CONFIG": os.devnull}
    for host in ("0.0.0.0:0", "[::]:0"):
        refused = subprocess.run(
            [sys.executable, "-m", "qm.daemon"],
            env=kept | own | {"QM_HOST": host},
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert (refused.returncode, b"QM_API_KEY" in refused.stderr) == (2, True)


def test_every_route_asks_for_the_key(start_daemon: Callable[..., Any]) -> None:
    """None of those in `/openapi.json`, nor a path that is none, answers without it."""
    closed = start_daemon(QM_API_KEY="secret")
    host = closed.json("GET", "/qm/status")["host"]
    paths = closed.json("GET", "/openapi.json")["paths"]
    asked = [(method, path) for path, methods in paths.items() for method in methods]
    for method, path in [*asked, ("get", "/nowhere"), ("post", "/qm/shutdown")]:
        for key in ("", "Bearer wrong", "Basic secret", "Bearer secret2"):
            connection = http.client.HTTPConnection(host, timeout=LIMIT_S)
            place = re.sub(r"\{\w+\}", "x", path)
            connection.request(method.upper(), place, headers={"Authorization": key})
            assert connection.getresponse().status == 401, (method, path)
            connection.close()


def test_large_bodies_cost_little(ask: Ask, daemon: Any) -> None:
    """What is too large, packed or not, is refused; memory stays what it was."""
    packed = gzip.compress(b'{"model":"smol","prompt":"' + b"a" * 50_000_000 + b'"}')
    before = peak_bytes(daemon.process.pid)
    assert ask("POST", "/api/generate", raw=packed, Content_Encoding="gzip")[0] == 413
    assert ask("POST", "/api/generate", raw=packed[:-10], Content_Encoding="gzip")[0] in (400, 413)
    assert ask("POST", "/api/generate", raw=b"no", Content_Encoding="gzip")[0] == 400
    assert ask("POST", "/api/generate", raw=b"no", Content_Encoding="br")[0] == 415
    for text in ("a b " * 250_000, "<|im_start|>" * 80_000):
        status, answered = ask("POST", "/api/generate", {"model": "smol", "prompt": text})
        assert (status, b"at least" in answered, b"the context of" in answered) == (400, True, True)
    for nested in (b"[" * 1_000_000, b'{"a":' * 150_000):
        assert ask("POST", "/api/chat", raw=nested)[0] in (400, 413)
    assert peak_bytes(daemon.process.pid) - before < 64 * 1024 * 1024


def peak_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", text)[0]) * 1024


def test_a_body_in_drops_is_given_up(daemon: Any) -> None:
    """Slow-loris: a byte now and then does not hold a connection beyond the limit."""
    name, port = daemon.json("GET", "/qm/status")["host"].split(":")
    with socket.create_connection((name, int(port)), timeout=LIMIT_S) as client:
        client.sendall(
            b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        client.settimeout(0.1)
        deadline = time.monotonic() + LIMIT_S
        answered = b""
        while not answered and time.monotonic() < deadline:
            client.sendall(b"1\r\n \r\n")
            try:
                answered = client.recv(1000)
            except TimeoutError:
                continue
    assert answered.startswith(b"HTTP/1.1 408"), answered


def test_who_hangs_up_halfway_is_forgotten(ask: Ask, daemon: Any) -> None:
    """Half-closed and pipelining connections get answers, or an end."""
    name, port = daemon.json("GET", "/qm/status")["host"].split(":")
    get = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection((name, int(port)), timeout=LIMIT_S) as client:
        client.sendall(get * 50)
        client.shutdown(socket.SHUT_WR)
        seen = b"".join(iter(lambda: client.recv(65536), b""))
    assert seen.count(b"HTTP/1.1 200 OK") in range(1, 51)
    with socket.create_connection((name, int(port)), timeout=LIMIT_S) as client:
        client.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n\r\n{")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1000) == b""


OPTIONS = ("num_predict", "num_keep", "seed", "temperature", "top_k", "top_p", "min_p", "typical_p",
           "repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty", "num_ctx",
           "num_batch", "num_gpu", "main_gpu", "num_thread", "stop", "n_discard")  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_numbers_out_of_range_are_refused_or_harmless(ask: Ask, option: str) -> None:
    """A 400, or an answer; never a broken runner. NaN is no JSON."""
    body: dict[str, Any] = {"model": "smol", "prompt": "Hi", "stream": False}
    for value in (-1, -(2**31), 2**31, 2**63, 10**400, 1e308, "1", [1], {"a": 1}, True):
        given: dict[str, Any] = {"num_predict": 1, option: value}
        if option == "num_predict":
            given["stop"] = [" ", "e", "a", "o", "i", ","]  # where it means: without end
        # a context of any size is cut to what the model was trained for; that load takes long
        if option != "num_ctx" or not isinstance(value, int):
            assert ask("POST", "/api/generate", body | {"options": given})[0] in (200, 400), value
    for text in ("NaN", "Infinity", "-Infinity", "1e999"):
        raw = json.dumps(body | {"options": {option: 0}}).replace(": 0", f": {text}").encode()
        assert ask("POST", "/api/generate", raw=raw)[0] == 400


def test_counts_out_of_range_are_refused(ask: Ask) -> None:
    """Huge `n`, negative anything, with the field's name."""
    chat: dict[str, Any] = {
        "model": "smol",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 1,
    }
    cases: list[tuple[str, str, tuple[Any, ...]]] = [
        ("/v1/chat/completions", "n", (0, -1, 129, 10**6, 2**31, 2**63, "1", 1.5)),
        ("/v1/chat/completions", "max_tokens", (-2, "1", 1.5)),
        ("/v1/chat/completions", "top_logprobs", (-1, 21, 2**31)),
        ("/v1/messages", "max_tokens", (0, -1, "1")),
    ]
    for path, field, values in cases:
        for value in values:
            status, answered = ask("POST", path, chat | {field: value})
            assert (status, field in answered.decode()) == (400, True), (path, field, value)


TEMPLATES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''|attr('__class__') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ self.__init__.__globals__ }}",
    "{{ 'a' * 10 ** 10 }}",
    "{% for i in range(10**6) %}{% for j in range(10**6) %}x{% endfor %}{% endfor %}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_stay_in_their_box(ask: Ask, template: str) -> None:
    """A 400, or text that shows nothing of this machine; in time."""
    body = {"model": "smol", "prompt": "x", "template": template, "stream": False}
    status, answered = ask("POST", "/api/generate", body | {"_debug_render_only": True})
    assert status in (200, 400)
    for secret in (b"root:", b"subprocess", b"__globals__'", b"<class '", b"builtins"):
        assert secret not in answered


SCHEMAS: tuple[Any, ...] = (
    {"$ref": "#"},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {"type": "string", "pattern": "(" * 60_000 + ")" * 60_000},
    {"type": "string", "pattern": "^+x"},
    {"type": "string", "pattern": "a{1,1000000}{1,1000000}"},
    {"type": "array", "minItems": 10**9, "items": {"type": "integer"}},
    {"enum": [str(n) for n in range(60_000)]},
)


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_schemas_that_explode_are_refused(ask: Ask, schema: Any) -> None:
    """A 400 that says why, or an answer within the bounds; never an unconstrained one."""
    nested: Any = {"type": "object"}
    for _ in range(100):
        nested = {"type": "object", "properties": {"a": nested}}
    body = {"model": "smol", "prompt": "x", "stream": False, "options": {"num_predict": 4}}
    assert ask("POST", "/api/generate", body | {"format": nested})[0] == 400
    assert ask("POST", "/api/generate", body | {"format": schema})[0] in (200, 400)


def test_no_request_reaches_for_other_machines(ask: Ask) -> None:
    """RPC is switched on by settings alone: options that name a worker are ignored or refused."""
    for name in ("rpc", "rpc_servers", "QM_RPC"):
        given = {"num_predict": 1, name: "127.0.0.1:1"}
        body = {"model": "smol", "prompt": "x", "stream": False, "options": given}
        assert ask("POST", "/api/generate", body)[0] == 200, "ignored as every unknown option"
        made = {"model": "x", "from": "smol", "parameters": {name: "127.0.0.1:1"}, "stream": False}
        assert ask("POST", "/api/create", made)[0] == 400
