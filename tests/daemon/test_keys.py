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


_KEY = b'{"keys":[{"name":"a","scopes":["chat"],"sha256":"%s","created_s":1}]}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\0" * 100,
        b"[" * 100_000,
        b'{"keys":' + b"[" * 100_000,
        b'{"keys":[{"name":1}]}',
        b'{"keys":[{"name":"\xff"}]}',
        _KEY % (b"0" * 64) + b"x",
        (_KEY % (b"0" * 64))[:-9],
        _KEY % "é".encode(),
        _KEY.replace(b"chat", b"all") % (b"0" * 64),
    ],
)
def test_a_damaged_file_lets_nobody_in_and_stays_as_it_is(tmp_path: Path, data: bytes) -> None:
    """It is an error that names the file, not an empty ring, which would ask for no key.

    Nor is it written anew: a person may mend it.
    """
    ring = KeyRing(tmp_path / "keys.json")
    ring.path.write_bytes(data)
    for use in (
        ring.all,
        ring.is_empty,
        lambda: ring.find("qm_x"),
        lambda: ring.add("b", []),
        lambda: ring.remove("a"),
    ):
        with pytest.raises(KeyFileInvalid, match=r"keys\.json") as caught:
            use()
        assert "qm key add" in caught.value.hint
    assert ring.path.read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_a_file_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    """A directory in its place is such a one for root, too."""
    ring = KeyRing(tmp_path / "keys.json")
    ring.path.mkdir()
    with pytest.raises(KeyFileInvalid, match=r"keys\.json"):
        ring.is_empty()
    with pytest.raises(KeyFileInvalid, match=r"keys\.json"):
        ring.add("a", [])
