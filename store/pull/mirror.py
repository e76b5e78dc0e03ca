"""Pages of a hub's mirror, as people copy them out of a browser. Pure."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

_HUB = "https://huggingface.co/"
_SCHEMES = ("http", "https")


def of_hub(text: str, endpoint: str) -> str:
    """The hub's own address of what `text` shows on the mirror at `endpoint`; any other text as it
    is. How the mirror is asked does not change by that: it stays what answers for the hub.
    """
    page, mirror = _split(text), _split(endpoint)
    if page is None or mirror is None or _host(page) != _host(mirror):
        return text
    below = f"{mirror.path.rstrip('/')}/"
    if not page.path.startswith(below):
        return text
    return _HUB + page.path.removeprefix(below)


def _split(text: str) -> SplitResult | None:
    """None for what is no address."""
    try:
        address = urlsplit(text.strip())
        readable = address.scheme in _SCHEMES and bool(address.hostname) and address.port != 0
    except ValueError:
        return None
    return address if readable else None


def _host(address: SplitResult) -> tuple[str | None, int | None]:
    """Either scheme is meant: who copies an address may have lost its `s`."""
    return address.hostname, address.port
