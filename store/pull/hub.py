"""What the Hugging Face hub says about a repository, through huggingface_hub.

Endpoint, token, proxies, certificates and offline mode are huggingface_hub's business
(`HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and so on); the transfer is ours. Imported in job
processes only.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote, urljoin

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported, not declared so
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    parse_xet_file_data_from_response,
)

from ..errors import NotFound, QmError, Unavailable
from .addresses import Origin, Policy
from .cache import cached_files
from .choose import RepoFile
from .connection import MAX_REDIRECTS, Located, XetFile
from .reference import MAIN
from .retry import TRANSIENT, backoff_s, retry_after_s
from .session import TRANSPORT_ERROR, bound_answers

_TRIES = 4
_LIMIT_S = 20.0
_LONGEST_WAIT_S = 60.0
_MOST_FILES = 100_000
HTTP_UNAUTHORIZED, HTTP_TOO_MANY = 401, 429
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN_CHARACTERS = 300

Result = TypeVar("Result")

bound_answers()


class RepoMissing(NotFound):
    """The hub knows no such repository, or won't show it to us."""

    code = "repo_not_found"


class RevisionMissing(NotFound):
    """The repository has no such branch, tag or commit (any more)."""

    code = "revision_not_found"


class RepoGated(QmError):
    """Its licence must be accepted first; the message says where."""

    status = 403
    code = "repo_gated"


class TokenRefused(QmError):
    """The hub does not accept the token that is set."""

    status = 401
    code = "token_refused"


class Busy(Unavailable):
    """Another time it may go well, if it `passes`; `wait_s` is when the hub says so."""

    def __init__(self, message: str, wait_s: float | None = None, *, passes: bool = True) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.passes = passes


class RateLimited(Busy):
    """The hub wants us to wait for longer than one should in silence."""

    status = 429
    code = "rate_limited"


class HubUnreachable(Busy):
    """The hub could not be asked."""

    code = "hub_unreachable"


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one commit: what is fetched by it can't change meanwhile."""

    endpoint: str
    repo: str
    commit: str
    files: tuple[RepoFile, ...]
    license: str = ""

    def file(self, path: str) -> RepoFile | None:
        return next((file for file in self.files if file.path == path), None)

    def policy(self) -> Policy:
        """Where transfers of its files may connect to."""
        return Policy(Origin.of(self.endpoint))

    def locate(self, path: str) -> Located:
        """A fresh address of the file's bytes; the token goes to the hub itself, to nobody else.

        Raises the errors above.
        """
        url = f"{self.endpoint}/{self.repo}/resolve/{self.commit}/{quote(path)}"
        question = _Question(self.endpoint, self.repo, self.commit)
        return question.answer(lambda: _locate(self.endpoint, url))


def _locate(endpoint: str, url: str) -> Located:
    """Follows redirects as long as they stay at the origin to which the token belongs.

    Not by `get_hf_file_metadata`: that takes the token along to other ports of the same host.
    """
    home, token = Origin.of(url), get_token()
    headers = build_hf_headers(token=token or False, library_name="qm")
    headers["Accept-Encoding"] = "identity"
    own = {"Authorization": f"Bearer {token}"} if token else {}
    xet: XetFile | None = None
    for _ in range(MAX_REDIRECTS):
        answer = get_session().head(url, headers=headers, timeout=_LIMIT_S, follow_redirects=False)
        xet = xet or _xet(answer, endpoint, home)
        where = answer.headers.get("location")
        if where is None:
            hf_raise_for_status(answer)
            return Located(url, own, xet)
        url = urljoin(url, where)
        if Origin.of(url) != home:
            return Located(url, {}, xet)
    raise HubUnreachable(f"{home.host} redirects without end", passes=False)


def _xet(answer: Any, endpoint: str, home: Origin) -> XetFile | None:
    """What the answer says of xet storage; passes are asked for where the token belongs only.

    `answer` is Any: the type is huggingface_hub's transport's, see session.py.
    """
    found = parse_xet_file_data_from_response(answer, endpoint)
    if found is None or not _SHA256.fullmatch(found.file_hash):
        return None
    pass_url = urljoin(f"{endpoint}/", found.refresh_route)
    return XetFile(found.file_hash, pass_url) if Origin.of(pass_url) == home else None


def list_repo(repo: str, revision: str = MAIN, endpoint: str | None = None) -> Listing:
    """Every file at the revision; in offline mode, what the cache has. Raises the errors above,
    AnswerRefused, NotCached.
    """
    endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
    if constants.HF_HUB_OFFLINE:
        return Listing(endpoint, repo, *cached_files(repo, revision))
    api = HfApi(endpoint=endpoint)

    def ask() -> ModelInfo:
        return api.model_info(repo, revision=revision, files_metadata=True, timeout=_LIMIT_S)

    info = _Question(endpoint, repo, revision).answer(ask)
    files = tuple(_file(sibling) for sibling in (info.siblings or [])[:_MOST_FILES])
    licence = getattr(info.card_data, "license", None)
    told = licence if isinstance(licence, str) else ""
    return Listing(endpoint, repo, str(info.sha), files, told)


def _file(sibling: object) -> RepoFile:
    lfs = getattr(sibling, "lfs", None)
    sha256 = str(getattr(lfs, "sha256", "") or "")
    return RepoFile(
        path=str(getattr(sibling, "rfilename", "")),
        size_bytes=max(0, int(getattr(sibling, "size", 0) or 0)),
        digest=f"sha256:{sha256}" if _SHA256.fullmatch(sha256) else None,
        git_oid=str(getattr(sibling, "blob_id", "") or ""),
    )


@dataclass(frozen=True, slots=True)
class _Question:
    """What the hub is asked about, for the words of its refusals."""

    endpoint: str
    repo: str
    revision: str

    def answer(self, ask: Callable[[], Result]) -> Result:
        """What the hub answers, asked again when it is only busy."""
        for failures in range(1, _TRIES + 1):
            try:
                return ask()
            except (TRANSPORT_ERROR, HFValidationError, OfflineModeIsEnabled) as error:
                refusal = self._refusal(error)
            wait_s = _wait_s(refusal, failures)
            if wait_s is None or failures == _TRIES:
                raise refusal
            time.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    def _refusal(self, error: Exception) -> QmError:
        """The hub's answer in our words."""
        if isinstance(error, HfHubHTTPError):
            return self._missing(error) or _refused(error)
        if isinstance(error, HFValidationError):
            return RepoMissing(f"the hub has no repository {self.repo!r}")
        if isinstance(error, OfflineModeIsEnabled):
            words = "offline mode is on (HF_HUB_OFFLINE): the hub is not asked"
            return HubUnreachable(words, passes=False)
        told = str(error)[:_SHOWN_CHARACTERS] or type(error).__name__
        return HubUnreachable(f"can't reach {self.endpoint}: {told}")

    def _missing(self, error: HfHubHTTPError) -> QmError | None:
        repo, revision = self.repo, self.revision
        match error:
            case GatedRepoError():
                return RepoGated(
                    f"{repo} is gated: accept its licence at {self.endpoint}/{repo}, log in with"
                    " `hf auth login` (or set HF_TOKEN), then pull again"
                )
            case RepositoryNotFoundError():
                return RepoMissing(
                    f"the hub has no repository {repo}, or it is private; a token helps then:"
                    " `hf auth login`"
                )
            case RevisionNotFoundError():
                return RevisionMissing(f"{repo} has no revision {revision!r}; it may have moved")
            case EntryNotFoundError():
                return RepoMissing(f"{repo} has no such file at {revision}")
        return None


def _refused(error: HfHubHTTPError) -> QmError:
    status = error.response.status_code
    told = (error.server_message or f"status {status}")[:_SHOWN_CHARACTERS]
    if status == HTTP_UNAUTHORIZED:
        return TokenRefused(f"the hub refuses the token that is set: {told}")
    wait_s = retry_after_s(error.response.headers, datetime.now(UTC))
    if status == HTTP_TOO_MANY:
        when = "later" if wait_s is None else f"in {wait_s:.0f} seconds"
        return RateLimited(f"the hub limits how often it may be asked; try again {when}", wait_s)
    return HubUnreachable(f"the hub failed: {told}", wait_s, passes=status in TRANSIENT)


def _wait_s(refusal: QmError, failures: int) -> float | None:
    """How long to wait before the next try; None if there should be none."""
    if not isinstance(refusal, Busy) or not refusal.passes:
        return None
    if refusal.wait_s is not None:
        return refusal.wait_s if refusal.wait_s <= _LONGEST_WAIT_S else None
    return backoff_s(failures, random.random())  # noqa: S311  spreads load
