"""`qm push`, `qm pull` and their routes, with a real registry and the real model."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.registry import Registry, running_registry

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon

ANSWER = ("-p", "temperature=0", "-p", "num_predict=12", "What is the capital of France?")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def pushed(registry: Registry, live_daemon: LiveDaemon) -> str:
    """The real model on the registry, pushed by the command line."""
    name = f"{registry.host}/library/smollm2:v1"
    done = live_daemon.qm("push", "smollm2", name, "--insecure")
    assert (done.returncode, done.stdout) == (0, f"pushed '{name}'\n"), done.stderr
    return name


def over_tcp(daemon: LiveDaemon, path: str, body: object) -> tuple[int, Any]:
    """Status and document, asked as a stranger would."""
    host, _, port = daemon.json("GET", "/qm/status")["host"].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


@pytest.mark.slow
def test_a_pulled_image_answers(
    start_daemon: Callable[..., LiveDaemon], registry: Registry, pushed: str
) -> None:
    """Into an empty store, with Ollama's statuses, by the setting that allows this registry."""
    daemon = start_daemon(QM_REGISTRIES=f"http://{registry.host}")
    status, data = daemon.call("POST", "/api/pull", {"model": pushed})
    assert status == 200
    steps = [json.loads(line) for line in data.splitlines()]
    statuses = list(dict.fromkeys(step["status"] for step in steps))
    assert statuses[0] == "pulling manifest"
    assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    digests = [step["status"] for step in steps if "digest" in step]
    assert all(len(text) == len("pulling ") + 12 for text in digests)
    assert "Paris" in daemon.qm("run", pushed, *ANSWER).stdout
    answered = over_tcp(daemon, "/api/push", {"model": pushed, "stream": False})
    assert answered == (200, {"status": "success"})


@pytest.mark.slow
def test_run_pulls_from_a_registry_what_is_missing(
    start_daemon: Callable[..., LiveDaemon], registry: Registry, pushed: str
) -> None:
    """A name that begins with a host; others are models that should be here."""
    daemon = start_daemon()
    done = daemon.qm("run", "--insecure", pushed, *ANSWER)
    assert "Paris" in done.stdout, done.stderr
    assert "pulling manifest" in done.stderr
    assert "pulling" not in daemon.qm("run", "nosuchmodel", "hi").stderr.replace("try: qm pull", "")


def test_what_is_missing_is_said(live_daemon: LiveDaemon, registry: Registry) -> None:
    """Here or there."""
    gone = live_daemon.qm("pull", f"{registry.host}/library/none:v1", "--insecure")
    assert (gone.returncode, "library/none:v1 is not on" in gone.stderr) == (1, True)
    gone = live_daemon.qm("push", "none", f"{registry.host}/library/none:v1", "--insecure")
    assert (gone.returncode, "not found" in gone.stderr) == (1, True)


def test_strangers_have_no_private_registry_asked(
    live_daemon: LiveDaemon, registry: Registry
) -> None:
    """Over TCP only the settings open a way into our network; nor may names be paths."""
    model = f"{registry.host}/library/smollm2:v1"
    status, answer = over_tcp(live_daemon, "/api/pull", {"model": model, "insecure": True})
    assert (status, "QM_REGISTRIES" in answer["error"]) == (403, True)
    status, answer = over_tcp(live_daemon, "/api/pull", {"model": model, "stream": False})
    assert (status, "no public address" in answer["error"]) == (400, True)
    for name in ("a/b/c/d", "h/../m", "file:///etc/passwd", "h/n/m:t/../../x"):
        status, answer = over_tcp(live_daemon, "/api/pull", {"model": name, "stream": False})
        assert (status, "invalid model name" in answer["error"]) == (400, True)
