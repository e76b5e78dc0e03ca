"""The two listeners, because a real hub answers from two hosts and clients must tell them apart.

The hub has metadata, and redirects to the bytes; the CDN has the bytes of large files, under links
that expire. Their host names differ too (`127.0.0.1`, `localhost`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode

from aiohttp import web

from . import listing
from .answers import Refusal, gated, rate_headers, redirect, signature, signed_link
from .faults import Fault
from .repos import Blob, Repos
from .sending import Entry, send

# A repository id is "org/name"; old hub ids may be a bare "name" (see "renamed_from").
_REPO = r"(?P<repo>[^/]+(?:/[^/]+)?)"
_VERBS = "revision|tree|paths-info|refs|auth-check|xet-read-token"
_API = re.compile(
    rf"^/api/models/{_REPO}(?:/(?P<verb>{_VERBS})(?:/(?P<rev>[^/]+)(?:/(?P<path>.+))?)?)?$"
)
_CACHED = re.compile(rf"^/api/resolve-cache/models/{_REPO}/(?P<rev>[0-9a-f]{{40}})/(?P<path>.+)$")
_FILE = re.compile(rf"^/{_REPO}/(?P<verb>resolve|raw)/(?P<rev>[^/]+)/(?P<path>.+)$")
_BLOB = re.compile(r"^/blobs/(?P<sha>[0-9a-f]{64})$")
_HOST = "127.0.0.1"
_LIMIT_S = 10.0
TOKENS = {"hf_alice": "alice", "hf_bob": "bob"}


class FakeHub:
    """A context manager in a test; `run()` from the command line. Ports are chosen freely."""

    def __init__(
        self,
        root: Path,
        *,
        port: int = 0,
        lfs_bytes: int = 10 << 20,
        page_size: int = 1000,
        link_seconds: float = 3600,
        xet: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.repos = Repos(root, lfs_bytes)
        self.port, self.cdn_port = port, 0
        self.page_size, self.link_seconds, self.xet = page_size, link_seconds, xet
        self.xet_endpoint = ""  # what passes are for; without it there are none
        self.xet_passes_at = ""  # who is said to give them; the hub itself if empty
        self.tls = tls
        self.faults: list[Fault] = []
        self.log: list[Entry] = []
        self._links: dict[str, tuple[str, Blob]] = {}  # sha256: (org/name/file, blob)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runners: list[web.AppRunner] = []

    @property
    def url(self) -> str:
        return f"{self._scheme}://{_HOST}:{self.port}"

    @property
    def cdn_url(self) -> str:
        return f"{self._scheme}://localhost:{self.cdn_port}"

    @property
    def _scheme(self) -> str:
        return "http" if self.tls is None else "https"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_LIMIT_S)
        return self

    def __exit__(self, *_exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_LIMIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LIMIT_S)
        self._loop.close()

    async def run(self) -> None:
        """Serves until it is cancelled, and prints where."""
        await self._listen()
        print(f"export HF_ENDPOINT={self.url}", flush=True)  # noqa: T201  the answer to a shell
        await asyncio.Event().wait()

    def fault(self, kind: str, **how: Any) -> Fault:
        """One more fault; the fields are those of Fault."""
        self.faults.append(Fault(kind, **how))
        return self.faults[-1]

    def sent_bytes(self, side: str = "cdn") -> int:
        """How many body bytes went out on one side since the log was cleared."""
        return sum(entry["sent"] for entry in self.log if entry["side"] == side)

    # Listening --------------------------------------------------------------------------------

    async def _listen(self) -> None:
        self.port = await self._listen_at("hub", self.port)
        self.cdn_port = await self._listen_at("cdn", self.cdn_port)

    async def _listen_at(self, side: str, port: int) -> int:
        async def serve(request: web.Request) -> web.StreamResponse:
            return await self._serve(request, side)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, _HOST, port, ssl_context=self.tls).start()
        self._runners.append(runner)
        bound: int = runner.addresses[0][1]
        return bound

    async def _close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    # Requests ---------------------------------------------------------------------------------

    async def _serve(self, request: web.Request, side: str) -> web.StreamResponse:
        raw = request.rel_url.raw_path
        if side == "hub" and raw.startswith("/_fakehub/"):
            return await self._control(request, raw)
        entry: Entry = {
            "side": side,
            "method": request.method,
            "path": request.path_qs,
            "range": request.headers.get("Range"),
            "if_range": request.headers.get("If-Range"),
            "auth": "Authorization" in request.headers,
            "agent": request.headers.get("User-Agent"),
            "sent": 0,
        }
        self.log.append(entry)
        answer = self._hub if side == "hub" else self._cdn
        try:
            response = await answer(request, raw, entry)
        except Refusal as refusal:
            response = refusal.response()
        except web.HTTPRedirection as elsewhere:
            entry["status"] = elsewhere.status
            raise
        entry["status"] = response.status
        return response

    async def _control(self, request: web.Request, raw: str) -> web.Response:
        """GET, POST, DELETE /_fakehub/faults; GET, DELETE /_fakehub/log: for other processes."""
        kept: list[Any] = self.faults if raw == "/_fakehub/faults" else self.log
        if request.method == "DELETE":
            kept.clear()
        elif request.method == "POST":
            kept.append(Fault.parse(await request.json()))
        return web.json_response(
            [dataclasses.asdict(each) if isinstance(each, Fault) else each for each in kept]
        )

    def _pick_faults(self, request: web.Request, side: str, target: str) -> dict[str, Fault]:
        return {
            fault.kind: fault for fault in self.faults if fault.hits(side, request.method, target)
        }

    async def _hub(self, request: web.Request, raw: str, entry: Entry) -> web.StreamResponse:
        part: dict[str, str] = {}
        match = _FILE.match(raw) or _CACHED.match(raw)
        target = raw.lstrip("/")
        if match:
            part = {name: unquote(value) for name, value in match.groupdict().items()}
            target = f"{part['repo']}/{part['path']}"
        faults = self._pick_faults(request, "hub", target)
        await _strike_before(faults)
        user = _user(request)
        if raw == "/api/whoami-v2":
            if user is None:
                raise Refusal(401, None, "Invalid username or password.")
            return web.json_response({"type": "user", "name": user, "orgs": []})
        if match:
            return await self._file(request, part, user, faults, entry)
        if match := _API.match(raw):
            given = {name: unquote(value or "") for name, value in match.groupdict().items()}
            return await self._api(request, given, user)
        raise Refusal(404, None, "Sorry, we can't find the page you are looking for.")

    def _repo(
        self, request: web.Request, repo: str, user: str | None, *, bytes_wanted: bool
    ) -> dict[str, Any]:
        """The repository's config, or the refusal that this user gets. Redirects old names."""
        for known in self.repos.ids():
            if repo in self.repos.config(known).get("renamed_from", ()):
                raise web.HTTPTemporaryRedirect(request.path_qs.replace(f"/{repo}", f"/{known}", 1))
        config = self.repos.config(repo)
        allowed = user is not None and user in config.get("readers", ())
        if repo not in self.repos.ids() or (config.get("private") and not allowed):
            if user is None:  # a hub does not say whether a repository it won't show exists
                raise Refusal(401, "RepoNotFound", "Invalid username or password.")
            raise Refusal(404, "RepoNotFound", "Repository not found")
        if bytes_wanted and config.get("gated") and not allowed:
            raise gated(repo, user, self.url)
        return config

    def _snapshot(self, repo: str, revision: str) -> tuple[str, dict[str, Blob]]:
        found = self.repos.snapshot(repo, revision)
        if found is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    async def _api(
        self, request: web.Request, part: Mapping[str, str], user: str | None
    ) -> web.Response:
        repo, verb = part["repo"], part["verb"]
        config = self._repo(request, repo, user, bytes_wanted=verb == "auth-check")
        if verb == "auth-check":
            return web.json_response({})
        if verb == "xet-read-token":
            return self._xet_pass()
        if verb == "refs":
            heads = {rev: self._snapshot(repo, rev)[0] for rev in self.repos.revisions(repo)}
            branches = [
                {"name": rev, "ref": f"refs/heads/{rev}", "targetCommit": commit}
                for rev, commit in heads.items()
            ]
            return web.json_response({"branches": branches, "tags": [], "converts": []})
        commit, files = self._snapshot(repo, part["rev"] or "main")
        if verb == "tree":
            return self._tree(request, part["path"], commit, files)
        if verb == "paths-info":
            wanted = (await request.json())["paths"]
            entries = [listing.tree_entry(files[path]) for path in wanted if path in files]
            return web.json_response(entries)
        sizes = bool(request.query.get("blobs"))
        return web.json_response(listing.info(repo, commit, files, config, sizes=sizes))

    def _xet_pass(self) -> web.Response:
        if not self.xet_endpoint:
            raise Refusal(503, None, "this hub has no xet storage")
        headers = {
            "X-Xet-Cas-Url": self.xet_endpoint,
            "X-Xet-Access-Token": "xet-pass",
            "X-Xet-Token-Expiration": str(int(time.time()) + 3600),
        }
        return web.json_response({}, headers=headers)

    def _tree(
        self, request: web.Request, under: str, commit: str, files: Mapping[str, Blob]
    ) -> web.Response:
        deep = request.query.get("recursive", "").lower() in ("1", "true")
        rows = listing.tree(under, files, deep=deep)
        headers = {"X-Repo-Commit": commit, **rate_headers("api")}
        if under and not rows:
            raise Refusal(404, "EntryNotFound", f"{under} does not exist on this revision", headers)
        start = int(request.query.get("cursor", 0))
        stop = start + min(self.page_size, int(request.query.get("limit", self.page_size)))
        if stop < len(rows):
            query = urlencode({**request.query, "cursor": stop})
            headers["Link"] = f'<{self.url}{request.rel_url.raw_path}?{query}>; rel="next"'
        return web.json_response(rows[start:stop], headers=headers)

    # Files ------------------------------------------------------------------------------------

    async def _file(
        self,
        request: web.Request,
        part: Mapping[str, str],
        user: str | None,
        faults: Mapping[str, Fault],
        entry: Entry,
    ) -> web.StreamResponse:
        repo, path = part["repo"], part["path"]
        self._repo(request, repo, user, bytes_wanted=True)
        commit, files = self._snapshot(repo, part["rev"])
        headers = {"X-Repo-Commit": commit, **rate_headers("resolvers")}
        blob = files.get(path)
        if blob is None:
            raise Refusal(404, "EntryNotFound", "Entry not found", headers)
        if sent_elsewhere := faults.get("redirect"):
            return redirect(302, sent_elsewhere.location, headers)
        etag = f'"{blob.etag}"'
        if blob.sha256 is not None:
            return self._to_cdn(f"{repo}/{path}", commit, blob, {**headers, "X-Linked-Etag": etag})
        if part.get("verb") == "resolve":  # small files: a relative redirect to the cache
            query = urlencode({request.path: "", "etag": etag})
            where = f"/api/resolve-cache/models/{repo}/{commit}/{quote(path)}?{query}"
            return redirect(307, where, headers)
        return await send(request, blob, etag, headers, faults, entry)

    def _to_cdn(
        self, target: str, commit: str, blob: Blob, headers: dict[str, str]
    ) -> web.Response:
        headers["X-Linked-Size"] = str(blob.size)
        if self.xet:
            repo = target.rpartition("/")[0]
            route = f"{self.xet_passes_at or self.url}/api/models/{repo}/xet-read-token/{commit}"
            headers |= {"X-Xet-Hash": str(blob.sha256), "X-Xet-Refresh-Route": route}
            headers["Link"] = f'<{route}>; rel="xet-auth"'
        self._links[str(blob.sha256)] = (target, blob)
        return redirect(302, signed_link(self.cdn_url, blob, self.link_seconds), headers)

    async def _cdn(self, request: web.Request, raw: str, entry: Entry) -> web.StreamResponse:
        match = _BLOB.match(raw)
        target, blob = self._links.get(match["sha"], (raw, None)) if match else (raw, None)
        faults = self._pick_faults(request, "cdn", target)
        await _strike_before(faults)
        if entry["auth"]:  # as object stores do: a signed link and a token together are an error
            return web.Response(status=400, text="Only one auth mechanism allowed")
        query = dict(parse_qsl(request.query_string))
        expires = query.get("Expires", "0")
        if blob is None or query.get("Signature") != signature(str(blob.sha256), expires):
            return web.Response(status=403, text="SignatureDoesNotMatch")
        if float(expires) < time.time():
            return web.Response(status=403, text="Request has expired")
        if elsewhere := faults.get("redirect"):
            return redirect(302, elsewhere.location, {})
        # a CDN's own etag looks like a hash of the file and is not one
        etag = f'"{signature(str(blob.sha256), "etag")}"'
        headers = {"Content-Disposition": f'attachment; filename="{Path(blob.path).name}"'}
        return await send(request, blob, etag, headers, faults, entry)


async def _strike_before(faults: Mapping[str, Fault]) -> None:
    """The faults that strike before an answer is made."""
    if delay := faults.get("delay"):
        await asyncio.sleep(delay.seconds)
    if bad := faults.get("status"):
        headers = {}
        if bad.status == 429:
            headers = rate_headers("resolvers", left=0, reset_s=bad.seconds)
        raise Refusal(bad.status, None, f"fault: {bad.status}", headers)


def _user(request: web.Request) -> str | None:
    header = request.headers.get("Authorization", "")
    if not header:
        return None
    user = TOKENS.get(header.removeprefix("Bearer ").strip())
    if user is None:
        raise Refusal(401, None, "Invalid credentials in Authorization header")
    return user
