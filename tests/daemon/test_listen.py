"""Sockets: private, never stolen from a living daemon, never open to the world without a key."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from qm.daemon.listen import (
    CannotListen,
    Exposed,
    SocketTaken,
    bound_address,
    check_exposure,
    is_loopback,
    peer_uid,
    tcp_socket,
    unix_socket,
)
from qm.daemon.setting_values import Address
from qm.daemon.settings import load_settings


@pytest.fixture
def place() -> Iterator[Path]:
    """A path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="qm-", dir="/tmp") as directory:
        yield Path(directory) / "new" / "qm.sock"


def test_the_socket_is_private_under_any_umask(place: Path) -> None:
    """It and the directory that is made for it; the umask is as it was."""
    before = os.umask(0)
    try:
        with unix_socket(place):
            assert stat.S_IMODE(place.stat().st_mode) == 0o600
            assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert not place.exists()


def test_a_socket_that_nobody_answers_on_is_replaced(place: Path) -> None:
    """A killed daemon leaves one behind."""
    place.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place))
    with unix_socket(place), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))


def test_a_living_daemons_socket_is_left_alone(place: Path) -> None:
    """Two stores must not fight for one socket."""
    with (
        unix_socket(place),
        pytest.raises(SocketTaken, match="another daemon"),
        unix_socket(place),
    ):
        pytest.fail("the socket was stolen")


def test_a_file_in_the_way_is_kept(place: Path) -> None:
    """Only sockets are ever removed."""
    place.parent.mkdir()
    place.write_text("mine")
    with pytest.raises(SocketTaken, match="no socket"), unix_socket(place):
        pytest.fail("the file was replaced")
    assert place.read_text() == "mine"


def test_a_newer_daemons_socket_is_not_removed(place: Path) -> None:
    """When ours was taken away meanwhile, its successor stays."""
    with unix_socket(place):
        place.unlink()
        place.write_text("successor")
    assert place.exists()


def test_a_directory_that_others_may_write_is_refused(place: Path) -> None:
    """They could put their own socket there, and read what we send."""
    place.parent.mkdir()
    place.parent.chmod(0o777)
    with pytest.raises(CannotListen, match="not this user's alone"), unix_socket(place):
        pytest.fail("listened in a public directory")


def test_a_path_that_is_too_long_says_so(tmp_path: Path) -> None:
    """The message names the setting."""
    path = tmp_path / ("x" * 120) / "qm.sock"
    with pytest.raises(CannotListen, match="QM_SOCKET"), unix_socket(path):
        pytest.fail("listened on an impossible path")


def test_the_peers_user_is_known(place: Path) -> None:
    """From the kernel, not from the peer."""
    with unix_socket(place) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))
        connection, _ = listener.accept()
        with connection:
            assert peer_uid(connection) == os.getuid()


def test_a_taken_port_is_no_error() -> None:
    """The daemon then serves its unix socket alone."""
    first = tcp_socket(Address("127.0.0.1", 0))
    assert first is not None
    with first:
        address = bound_address(first)
        assert address.port > 0
        assert tcp_socket(address) is None


def test_an_address_that_is_not_ours_is_an_error() -> None:
    """Unlike a taken port it never works."""
    with pytest.raises(CannotListen, match="QM_HOST"):
        tcp_socket(Address("192.0.2.1", 0))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LocalHost"])
def test_loopback(host: str) -> None:
    """Reachable from this machine alone."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "localhost.x"])
def test_what_others_may_reach_needs_a_key(host: str) -> None:
    """A name counts as foreign, whatever it resolves to today."""
    assert not is_loopback(host)
    if not host:
        return
    environ = {"QM_HOST": f"[{host}]:1" if ":" in host else host, "QM_CONFIG": os.devnull}
    with pytest.raises(Exposed, match="QM_API_KEY"):
        check_exposure(load_settings(environ))
    check_exposure(load_settings(environ | {"QM_API_KEY": "k"}))
    check_exposure(load_settings(environ | {"QM_HOST": "off"}))
