"""Whom to ask for models, with which token, and by which way: what the environment says of it.

A command hands its own over with what it asks, so that `HF_TOKEN=… qm pull …` works whatever the
daemon was started with. Names and values only; nothing is read or imported here.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Final

HEADER: Final = "X-Qm-Network"  # heard over the unix socket alone
_NAMES: Final = frozenset(
    {
        "HUGGING_FACE_HUB_TOKEN",
        "TRANSFORMERS_OFFLINE",
        "XDG_CACHE_HOME",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    }
)
_PROXIES: Final = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
_MOST_CHARACTERS: Final = 6000  # of the header; a server takes about 8,000


def of_network(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of `environment` that downloads go by."""
    return {
        name: value
        for name, value in environment.items()
        if name in _NAMES or name.startswith("HF_") or name.upper() in _PROXIES
    }


def to_header(environment: Mapping[str, str]) -> str:
    """The header's value; empty where there is nothing to say, or too much."""
    told = of_network(environment)
    text = base64.b64encode(json.dumps(told).encode()).decode() if told else ""
    return text if len(text) <= _MOST_CHARACTERS else ""


def from_header(text: str) -> dict[str, str]:
    """What a command's environment says; nothing for what can't be read."""
    try:
        told = json.loads(base64.b64decode(text, validate=True) or b"{}")
    except (binascii.Error, ValueError):
        return {}
    if not isinstance(told, dict):
        return {}
    return of_network({k: v for k, v in told.items() if isinstance(v, str) and "\0" not in v})
