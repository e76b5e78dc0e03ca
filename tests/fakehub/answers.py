"""What the hub says besides bytes: refusals, redirects, limits, signed links."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from .repos import Blob

_GATED = "You must have access to it and be authenticated to access it. Please log in."


class Refusal(Exception):
    """An error answer, in the form that hub clients read: two headers and a JSON body."""

    def __init__(
        self, status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}

    def response(self) -> web.Response:
        headers = {"X-Error-Message": self.message, **self.headers}
        if self.code:
            headers["X-Error-Code"] = self.code
        return web.json_response({"error": self.message}, status=self.status, headers=headers)


def gated(repo: str, user: str | None, url: str) -> Refusal:
    """The two refusals of a gated repository: who are you, and you may not."""
    restricted = f"Access to model {repo} is restricted"
    if user is None:
        return Refusal(401, "GatedRepo", f"{restricted}. {_GATED}")
    words = f"{restricted} and you are not in the authorized list. Visit {url}/{repo} to ask."
    return Refusal(403, "GatedRepo", words)


def rate_headers(bucket: str, left: int = 2999, reset_s: float = 300) -> dict[str, str]:
    return {
        "RateLimit": f'"{bucket}";r={left};t={max(1, round(reset_s))}',
        "RateLimit-Policy": f'"fixed window";"{bucket}";q=3000;w=300',
    }


def redirect(status: int, where: str, headers: Mapping[str, str]) -> web.Response:
    text = f"Redirecting to {where}"
    return web.Response(status=status, text=text, headers={"Location": where, **headers})


def signed_link(cdn_url: str, blob: Blob, link_seconds: float) -> str:
    """An address of the bytes that works for a while, without a token."""
    expires = f"{time.time() + link_seconds:.3f}"
    name = quote(f'attachment; filename="{Path(blob.path).name}"')
    return (
        f"{cdn_url}/blobs/{blob.sha256}?response-content-disposition={name}"
        f"&Expires={expires}&Signature={signature(str(blob.sha256), expires)}"
    )


def signature(sha256: str, expires: str) -> str:
    return hashlib.sha1(f"fakehub {sha256} {expires}".encode()).hexdigest()
