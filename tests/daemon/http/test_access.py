"""Host, Origin and keys: who may talk to the daemon over TCP."""

from __future__ import annotations

import pytest
from qm.daemon.http.access import is_authorised, is_same_origin, rules_for

RULES = rules_for((), (), "127.0.0.1:11434")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LOCALHOST:11434",
        "127.0.0.1:11434",
        "[::1]:11434",
        "foo.localhost",
        "host.docker.internal:11434",
        "192.168.1.5",
        "0.0.0.0",
        "localhost.",
    ],
)
def test_names_of_this_machine_are_allowed(host: str) -> None:
    assert RULES.allows_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "evil.com:11434",
        "8.8.8.8",
        "localhost.evil.com",
        "127.0.0.1.nip.io",
    ],
)
def test_rebound_names_are_refused(host: str) -> None:
    """A page that rebinds its name to loopback still sends that name."""
    assert not RULES.allows_host(host)


def test_a_host_can_be_allowed_by_setting() -> None:
    assert rules_for(("models.example.com",), (), None).allows_host("models.example.com:443")


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost:3000",
        "http://127.0.0.1:8080",
        "http://[::1]:3000",
        "http://0.0.0.0",
        "app://obsidian.md",
        "file://",
        "tauri://localhost",
        "vscode-webview://abc",
        "vscode-file://x",
    ],
)
def test_local_pages_and_editors_are_allowed(origin: str) -> None:
    assert RULES.allows_origin(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.com",
        "http://localhost.evil.com",
        "http://foo.localhost",
        "http://127.0.0.1.evil.com",
        "chrome-extension://abc",
        "http://[::1",
        "http://evil.com/localhost",
    ],
)
def test_other_pages_are_refused(origin: str) -> None:
    assert not RULES.allows_origin(origin)


def test_origins_can_be_allowed_by_setting() -> None:
    """Extensions have origins of their own; a last * stands for any rest."""
    rules = rules_for((), ("chrome-extension://*", "https://chat.example.com"), None)
    assert rules.allows_origin("chrome-extension://abc")
    assert rules.allows_origin("https://chat.example.com")
    assert not rules.allows_origin("https://chat.example.com.evil.com")
    assert not rules.allows_origin("moz-extension://abc")
    assert rules_for((), ("*",), None).allows_origin("https://anything")


def test_same_origin_needs_the_whole_authority() -> None:
    assert is_same_origin("http://127.0.0.1:11434", "127.0.0.1:11434")
    assert not is_same_origin("http://127.0.0.1:80", "127.0.0.1:11434")
    assert not is_same_origin("null", "")


def test_keys_come_as_bearer_or_header() -> None:
    keys = ("first", "sécond")
    assert is_authorised({"Authorization": "Bearer first"}, keys)
    assert is_authorised({"Authorization": "bearer sécond"}, keys)
    assert is_authorised({"x-api-key": "first"}, keys)
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic first"},
        {"Authorization": "Bearer firs"},
        {"x-api-key": ""},
    ):
        assert not is_authorised(headers, keys)
