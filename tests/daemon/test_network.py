"""What a command hands over of its environment."""

from __future__ import annotations

import base64
import json

import pytest
from qm.daemon.network import from_header, to_header
from qm.daemon.runner.environment import network_environment


def test_only_what_downloads_go_by_is_handed_over() -> None:
    """Tokens of others and paths of libraries are none of it."""
    environment = {
        "HF_TOKEN": "hf_x",
        "https_proxy": "http://proxy:3128",
        "PATH": "/evil",
        "LD_PRELOAD": "/evil.so",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    told = from_header(to_header(environment))
    assert told == {"HF_TOKEN": "hf_x", "https_proxy": "http://proxy:3128"}
    assert to_header({"PATH": "/bin"}) == ""


def test_the_daemon_takes_nothing_else_from_a_header() -> None:
    """Whoever writes one by hand sets no other variable."""
    text = json.dumps({"LD_PRELOAD": "/evil.so", "HF_TOKEN": 7, "HF_HOME": "/x\0", "HF_A": "b"})
    assert from_header(base64.b64encode(text.encode()).decode()) == {"HF_A": "b"}


@pytest.mark.parametrize("text", ["", "%%%", "AAAA", base64.b64encode(b"[1]").decode()])
def test_nonsense_says_nothing(text: str) -> None:
    assert from_header(text) == {}


def test_too_much_is_not_sent() -> None:
    """A server would refuse the whole request."""
    assert to_header({"NO_PROXY": "x" * 10_000}) == ""


def test_certificates_have_one_name() -> None:
    """requests' name counts where nobody uses the usual ones."""
    assert network_environment({"REQUESTS_CA_BUNDLE": "/ca.pem"})["SSL_CERT_FILE"] == "/ca.pem"
    both = {"REQUESTS_CA_BUNDLE": "/ca.pem", "SSL_CERT_FILE": "/other.pem"}
    assert network_environment(both)["SSL_CERT_FILE"] == "/other.pem"
