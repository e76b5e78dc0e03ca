"""Where a download may connect to."""

from __future__ import annotations

import pytest
from qm.store.pull.addresses import ForbiddenAddress, Origin, Policy, kind

HUB = "https://huggingface.co"
NAMES = {
    "huggingface.co": ["18.164.174.23"],
    "cdn.example": ["8.8.8.8", "2606:4700::1111"],
    "rebinding.example": ["127.0.0.1"],
    "mixed.example": ["10.0.0.1", "8.8.4.4"],
    "mirror.corp": ["10.1.1.1"],
    "storage.corp": ["10.1.1.2"],
    "localhost": ["127.0.0.1"],
}


def resolve(host: str, _port: int) -> list[str]:
    return NAMES.get(host, [host])


def allowed(url: str, home: str = HUB) -> list[str]:
    return Policy(Origin.of(home), resolve).addresses(url)


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("https://huggingface.co/x", ["18.164.174.23"]),
        ("https://cdn.example/x?sig=1", ["8.8.8.8", "2606:4700::1111"]),
        ("https://mixed.example/x", ["8.8.4.4"]),
    ],
)
def test_public_addresses_are_allowed(url: str, addresses: list[str]) -> None:
    """And no others of the same name."""
    assert allowed(url) == addresses


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://cdn.example/x",
            "file:///etc/passwd",
            "ftp://cdn.example/x",
            "gopher://x/",
            "//x",
        ),
        *("https://169.254.169.254/latest/meta-data", "https://127.0.0.1/", "https://[::1]/"),
        *("https://localhost/", "https://10.0.0.1/", "https://192.168.1.1/", "https://0.0.0.0/"),
        *("https://rebinding.example/x", "https://[::ffff:127.0.0.1]/", "https://[fe80::1]/"),
        *("https://[64:ff9b::a9fe:a9fe]/", "https://[fd00::1]/", "https://224.0.0.1/"),
        *("https://user:secret@cdn.example/x", "https://cdn.example:99999/x", "https:///x", ""),
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    """Other schemes, private and special addresses, names that lead there, secrets in it."""
    with pytest.raises(ForbiddenAddress):
        allowed(url)


def test_the_configured_host_may_be_anywhere() -> None:
    """A mirror at home leads to storage at home, not to the machine's own services."""
    assert allowed("http://mirror.corp/x", home="http://mirror.corp") == ["10.1.1.1"]
    assert allowed("http://storage.corp/x", home="http://mirror.corp") == ["10.1.1.2"]
    for url in ("http://127.0.0.1/", "http://169.254.169.254/"):
        with pytest.raises(ForbiddenAddress):
            allowed(url, home="http://mirror.corp")


def test_behind_a_proxy_literal_addresses_are_checked() -> None:
    """Names are the proxy's business."""
    policy = Policy(Origin.of(HUB), resolve)
    assert policy.check_name("https://rebinding.example/x").host == "rebinding.example"
    with pytest.raises(ForbiddenAddress):
        policy.check_name("https://169.254.169.254/")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *(("8.8.8.8", "public"), ("127.8.8.8", "loopback"), ("::1", "loopback")),
        *(("169.254.1.1", "link_local"), ("fe80::1%eth0", "link_local"), ("100.64.0.1", "private")),
        *(
            ("::ffff:10.0.0.1", "private"),
            ("2002:7f00:1::", "loopback"),
            ("0.0.0.0", "unspecified"),
        ),
    ],
)
def test_kinds_of_addresses(address: str, expected: str) -> None:
    """Also where one is hidden in another."""
    assert kind(address) == expected
