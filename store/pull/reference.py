"""What people write for a model on the Hugging Face hub, and the name that it gets here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import InvalidRequest
from ..name import Name

HOST = "hf.co"
_HUB = "https://huggingface.co/"
_SCHEMES = ("http", "https")
MAIN = "main"
_PREFIXES = ("hf.co/", "huggingface.co/", "hf:")
_SITES = frozenset({"hf.co", "huggingface.co", "www.huggingface.co"})
_ORGANISATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_REPOSITORY = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")
COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_COMMIT_CHARACTERS = 12
_SHOWN_CHARACTERS = 200


class InvalidReference(InvalidRequest):
    """A text that names no repository of the hub; says which part is wrong."""

    code = "invalid_reference"


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository, and which of its models: by quantisation or by file, None for the usual one."""

    repo: str
    quant: str | None = None
    file: str | None = None
    revision: str = MAIN

    @property
    def name(self) -> Name:
        """The name under which the model is kept: another revision is another model."""
        organisation, _, repository = self.repo.partition("/")
        tag = self.quant or (file_stem(self.file) if self.file else "latest")
        if self.revision != MAIN:
            is_commit = COMMIT.fullmatch(self.revision)
            known_as = self.revision[:_COMMIT_CHARACTERS] if is_commit else self.revision
            tag = f"{tag}-{known_as.replace('/', '-')}"
        return Name(HOST, organisation, repository, tag)

    def __str__(self) -> str:
        which = f":{self.quant or file_stem(self.file or '')}" if self.quant or self.file else ""
        revision = "" if self.revision == MAIN else f"@{self.revision}"
        return f"{HOST}/{self.repo}{which}{revision}"


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


def is_hub(text: str) -> bool:
    """Whether `text` is meant for the hub, well written or not."""
    return _without_site(text.strip()) is not None


def parse_reference(text: str) -> Reference:
    """`hf.co/org/repo[:QUANT][@revision]`, or the address of a repository or file in a browser."""
    rest = _without_site(text.strip())
    if rest is None:
        raise _invalid(text, "write hf.co/org/repo, hf.co/org/repo:QUANT or …@revision")
    if text.strip().lower().startswith(("http://", "https://")):
        return _from_address(text, rest)
    rest, at, revision = rest.partition("@")
    path, colon, quant = rest.partition(":")
    if (at and not revision) or (colon and not quant):
        raise _invalid(text, "nothing follows its last sign")
    if quant and not _TAG.fullmatch(quant):
        raise _invalid(text, "what follows the colon is no quantisation")
    return Reference(_repo(text, path), quant or None, None, _revision(text, revision or MAIN))


def parse_file_reference(text: str) -> Reference:
    """`hf.co/org/repo/path/to/file[@revision]`, or the file's address in a browser; any file."""
    rest = _without_site(text.strip())
    if rest is None:
        raise _invalid(text, "write hf.co/org/repo/FILE or hf.co/org/repo/FILE@REVISION")
    if text.strip().lower().startswith(("http://", "https://")):
        return _from_address(text, rest, suffix="")
    path, at, revision = rest.partition("@")
    parts = path.split("/")
    if len(parts) < 3 or not all(parts) or ".." in parts:
        raise _invalid(text, "it names no file: write hf.co/org/repo/FILE")
    repo = _repo(text, "/".join(parts[:2]))
    file = "/".join(parts[2:])
    return Reference(repo, file=file, revision=_revision(text, revision if at else MAIN))


def file_stem(path: str) -> str:
    """A GGUF's name without folder, suffix and part number: how it may be asked for."""
    name = path.rpartition("/")[2]
    stem = name[: -len(".gguf")] if name.lower().endswith(".gguf") else name
    return _PART.sub("", stem)


def _from_address(text: str, rest: str, suffix: str = ".gguf") -> Reference:
    parts = [unquote(part) for part in rest.split("/") if part]
    repo = _repo(text, "/".join(parts[:2]))
    match parts[2:]:
        case []:
            return Reference(repo)
        case ["tree", *revision] if revision:
            return Reference(repo, revision=_revision(text, "/".join(revision)))
        case ["blob" | "resolve" | "raw", revision, *path] if path:
            if not path[-1].lower().endswith(suffix) or ".." in path:
                raise _invalid(text, "the file is no GGUF")
            return Reference(repo, file="/".join(path), revision=_revision(text, revision))
    raise _invalid(text, "that page is neither a repository nor a file")


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


def _without_site(text: str) -> str | None:
    """What follows the site's name, None where another site or none is named."""
    lower = text.lower()
    if lower.startswith(("http://", "https://")):
        address = urlsplit(text)
        return address.path.strip("/") if address.netloc.lower() in _SITES else None
    for prefix in _PREFIXES:
        if lower.startswith(prefix):
            return text[len(prefix) :]
    return None


def _repo(text: str, path: str) -> str:
    organisation, slash, repository = path.strip("/").partition("/")
    if not slash or not _ORGANISATION.fullmatch(organisation):
        raise _invalid(text, "it must have an organisation and a repository")
    if not _REPOSITORY.fullmatch(repository):
        raise _invalid(text, "the repository's name is not valid")
    return f"{organisation}/{repository}"


def _revision(text: str, revision: str) -> str:
    if not _REVISION.fullmatch(revision):
        raise _invalid(text, "the revision is not valid")
    return revision


def _invalid(text: str, why: str) -> InvalidReference:
    return InvalidReference(f"invalid model {text[:_SHOWN_CHARACTERS]!r}: {why}")
