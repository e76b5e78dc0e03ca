"""API keys by name: what each may do, and of the key itself nothing but its hash."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self

import msgspec
from qm.store.errors import Conflict, InvalidRequest, NotFound, QmError

from .settings import Settings

_MAGIC = "qm_"
_MOST_NAME_CHARACTERS = 64


class Scope(StrEnum):
    """What a key opens: asking models and looking at them, or changing what is here as well."""

    CHAT = "chat"
    MANAGE = "manage"


class KeyFileInvalid(QmError):
    """The file of keys can't be read as one; nobody gets in by it."""

    code = "key_file_invalid"

    @classmethod
    def of(cls, path: Path, error: Exception) -> Self:
        return cls(f"the API keys in {path} can't be read: {error}")

    @property
    def hint(self) -> str:
        return "mend the file, or move it away and make new keys: qm key add"


class KeyExists(Conflict):
    """Another key has this name."""

    code = "key_exists"


class NoSuchKey(NotFound):
    """No key has this name."""

    code = "key_not_found"


class InvalidKey(InvalidRequest):
    """A name or a scope that a key can't have."""

    code = "invalid_key"


class Key(msgspec.Struct, frozen=True):
    """One key. `sha256` is of the key: it is random, so that needs no slow hash."""

    name: str
    scopes: tuple[Scope, ...]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    created_s: int

    def allows(self, scope: Scope) -> bool:
        """Who may manage may ask, too."""
        return scope in self.scopes or Scope.MANAGE in self.scopes


class _File(msgspec.Struct, frozen=True):
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys in one file, which only its user can read. Every call sees the file as it is."""

    path: Path

    def all(self) -> tuple[Key, ...]:
        """Raises KeyFileInvalid."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeyFileInvalid.of(self.path, error) from error
        return _read(self.path, (status.st_ino, status.st_size, status.st_mtime_ns))

    def add(self, name: str, scopes: Iterable[Scope]) -> str:
        """The new key, which nobody can learn again. Raises KeyExists and InvalidKey."""
        if not name or len(name) > _MOST_NAME_CHARACTERS or not name.isprintable():
            raise InvalidKey(f"a key's name has 1 to {_MOST_NAME_CHARACTERS} printable characters")
        keys = self.all()
        if any(key.name == name for key in keys):
            raise KeyExists(f"there is a key {name!r} already; remove it first: qm key rm")
        secret = _MAGIC + secrets.token_urlsafe(32)
        chosen = tuple(dict.fromkeys(scopes)) or (Scope.CHAT,)
        self._write((*keys, Key(name, chosen, digest(secret), int(time.time()))))
        return secret

    def remove(self, name: str) -> None:
        """Raises NoSuchKey."""
        keys = self.all()
        left = tuple(key for key in keys if key.name != name)
        if left == keys:
            raise NoSuchKey(f"there is no key {name!r}")
        self._write(left)

    def is_empty(self) -> bool:
        return not self.all()

    def find(self, secret: str) -> Key | None:
        """The key that `secret` is; every one is compared, in constant time."""
        given = digest(secret)
        matches = [key for key in self.all() if hmac.compare_digest(key.sha256, given)]
        return matches[0] if matches else None

    def _write(self, keys: tuple[Key, ...]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_File(keys)))
        partial = self.path.with_suffix(".new")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)


@lru_cache(maxsize=4)
def _read(path: Path, _stamp: tuple[int, int, int]) -> tuple[Key, ...]:
    """The keys in a file that looks so; it is replaced whole, so another look is another file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).keys
    except FileNotFoundError:
        return ()
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OSError) as error:
        raise KeyFileInvalid.of(path, error) from error


def key_ring(settings: Settings) -> KeyRing:
    return _ring(settings.home)


@lru_cache(maxsize=4)
def _ring(home: Path) -> KeyRing:
    """Every request asks for it."""
    return KeyRing(home / "keys.json")


def asks_for_keys(settings: Settings) -> bool:
    """Whether TCP clients must send a key."""
    return bool(settings.api_keys()) or not key_ring(settings).is_empty()


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
