from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from qm.store import store as store_module
from qm.store.filesystem import file_system_type
from qm.store.layout import Layout
from qm.store.store import StoreUnavailable, open_store


def test_opening_makes_the_store(tmp_path: Path) -> None:
    """Once, and again without harm; relative paths hold when the directory changes."""
    store = open_store(tmp_path / "new")
    digest = store.blobs.put(b"hello")
    assert open_store(tmp_path / "new").blobs.has(digest)


def test_a_file_in_the_place_of_the_store_says_so(tmp_path: Path) -> None:
    """503, with the path and the reason."""
    (tmp_path / "store").write_text("x")
    with pytest.raises(StoreUnavailable, match="store") as caught:
        open_store(tmp_path / "store")
    assert caught.value.status == 503


@pytest.mark.parametrize("root", ["/proc/qm", "/dev/null/qm"])
def test_a_place_that_takes_no_files_says_so(root: str) -> None:
    """A read-only or missing disk is a typed error."""
    with pytest.raises(StoreUnavailable, match=root):
        open_store(Path(root))


def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the directories fit."""

    def full(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        open_store(tmp_path / "new")


def test_no_permission_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's directory."""
    Layout(tmp_path).create()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreUnavailable, match="permission"):
        open_store(tmp_path)


MOUNTS = r"""22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:30 / /home rw - nfs4 server:/home rw
31 22 0:31 / /mnt/my\040disk rw shared:5 master:2 - btrfs /dev/sdb rw
32 30 0:32 / /home/me/local rw - xfs /dev/sdc rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var", "ext4"),
        ("/home/me/store", "nfs4"),
        ("/home/me/local/store", "xfs"),
        ("/homes", "ext4"),
        ("/mnt/my disk/store", "btrfs"),
    ],
)
def test_the_innermost_mount_tells_the_file_system(path: str, kind: str) -> None:
    """As proc(5) writes it, blanks escaped."""
    assert file_system_type(Path(path), MOUNTS) == kind


def test_a_network_file_system_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Kernel locks may do nothing there; the log says so, and a disk is no reason to warn."""
    with caplog.at_level(logging.WARNING):
        open_store(tmp_path)
        assert caplog.records == []
        monkeypatch.setattr(store_module, "network_file_system", lambda _path: "nfs4")
        open_store(tmp_path)
    assert "type=nfs4" in caplog.text
