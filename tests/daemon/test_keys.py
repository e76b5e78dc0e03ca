"""Keys are kept as hashes, in a file of their user's own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from qm.daemon.keys import InvalidKey, KeyExists, KeyFileInvalid, KeyRing, NoSuchKey, Scope


def test_a_key_opens_what_it_is_for(tmp_path: Path) -> None:
    """Only its hash stays behind, readable by nobody else; a removed key is no key."""
    ring = KeyRing(tmp_path / "keys.json")
    assert ring.all() == ()
    assert ring.find("") is None
    chat, manage = ring.add("chat", [Scope.CHAT]), ring.add("ops", [Scope.MANAGE])
    assert chat != manage
    text = ring.path.read_text()
    assert chat not in text
    assert manage not in text
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
    found = ring.find(chat)
    assert found is not None
    assert (found.name, found.allows(Scope.CHAT), found.allows(Scope.MANAGE)) == (
        "chat",
        True,
        False,
    )
    ops = ring.find(manage)
    assert ops is not None
    assert ops.allows(Scope.CHAT)
    assert ring.find(chat[:-1]) is None
    ring.remove("chat")
    assert ring.find(chat) is None
    assert [key.name for key in ring.all()] == ["ops"]


def test_names_are_taken_once(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    ring.add("a", [])
    assert ring.all()[0].scopes == (Scope.CHAT,)
    with pytest.raises(KeyExists):
        ring.add("a", [])
    for name in ("", "x" * 65, "a\nb"):
        with pytest.raises(InvalidKey):
            ring.add(name, [])
    with pytest.raises(NoSuchKey):
        ring.remove("b")


def test_a_damaged_file_lets_nobody_in(tmp_path: Path) -> None:
    """It is an error, not an empty ring, which would ask for no key."""
    ring = KeyRing(tmp_path / "keys.json")
    for data in (b"{", b"[]", b'{"keys":[{"name":1}]}'):
        ring.path.write_bytes(data)
        with pytest.raises(KeyFileInvalid):
            ring.all()
