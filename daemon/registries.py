"""Which registry a model's name means, and whether whoever asks may have it asked. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from qm.store.errors import InvalidRequest, QmError
from qm.store.name import Name

from .settings import Settings

JsonObject: TypeAlias = dict[str, Any]  # Any: a JSON document

_PLAIN = "http://"
_SECURE = "https://"
_PAGES = re.compile(r"(https?://[^/\s]+)/.*/(?:blob|resolve|raw|tree)/", re.IGNORECASE)


class InsecureRefused(QmError):
    """Plain HTTP to a registry that the user did not configure, asked for from afar."""

    status = 403
    code = "insecure_refused"


class UnknownHub(InvalidRequest):
    """The address of a page that a hub has, on a host that is not known for one."""

    code = "unknown_hub"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: `is_local` is a process of this user, over the unix socket."""

    is_local: bool
    insecure: bool = False


def endpoint(name: Name, settings: Settings, asker: Asker) -> JsonObject:
    """The registry of `name`, as the arguments of a job. Raises InsecureRefused.

    One on a private address is asked only if a setting names it or a local process wants it:
    nobody else may have our network probed.
    """
    configured = _configured(name.host, settings.registries)
    if asker.insecure and not (configured or asker.is_local):
        raise InsecureRefused(
            f"name {name.host} in QM_REGISTRIES to have it asked without TLS from afar"
        )
    url = configured or f"{_PLAIN if asker.insecure else _SECURE}{name.host}"
    return {
        "url": url,
        "trusted": bool(configured) or asker.is_local,
        "auth_file": str(settings.registry_auth or ""),
    }


def parse_image(text: str) -> Name:
    """The name in what people write for a model on a registry. Raises InvalidName, UnknownHub."""
    if page := _PAGES.match(text.strip()):
        raise UnknownHub(
            f"{page[1]} is not the hub; if it is a mirror of it, set HF_ENDPOINT={page[1]}"
        )
    for scheme in (_SECURE, _PLAIN):
        text = text.strip().removeprefix(scheme)
    return Name.parse(text)


def _configured(host: str, registries: tuple[str, ...]) -> str | None:
    for entry in registries:
        scheme = _PLAIN if entry.startswith(_PLAIN) else _SECURE
        if entry.removeprefix(scheme).rstrip("/").casefold() == host.casefold():
            return f"{scheme}{host}"
    return None
