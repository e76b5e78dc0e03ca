"""The sockets that the daemon listens on, and who may be at their other end."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qm.store.errors import Conflict, InvalidRequest, QmError

from .keys import asks_for_keys
from .setting_values import Address
from .settings import Settings

_BACKLOG = 512
_CONNECT_LIMIT_S = 2.0
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1  # macOS, sys/un.h
_UCRED, _XUCRED = struct.Struct("3i"), struct.Struct("2I")


class Exposed(InvalidRequest):
    """Others could reach the daemon, and nothing would ask them who they are."""

    code = "exposed"

    def __init__(self, address: Address) -> None:
        super().__init__(
            f"QM_HOST={address} can be reached from other machines: "
            "make a key (qm key add NAME) or set QM_API_KEY, or listen on 127.0.0.1"
        )


class SocketTaken(Conflict):
    """Something else listens on the unix socket's path, or lies there."""

    code = "socket_taken"


class CannotListen(QmError):
    """The system does not let us listen where the settings say."""

    code = "cannot_listen"


def check_exposure(settings: Settings) -> None:
    """Raises Exposed when an address that is not loopback would be served without a key."""
    address = settings.address
    if address is not None and not is_loopback(address.host) and not asks_for_keys(settings):
        raise Exposed(address)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; of names, only localhost is believed."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@contextmanager
def unix_socket(path: Path) -> Iterator[socket.socket]:
    """A listening socket that only this user can reach; its file goes with the context.

    Call it only while the store is claimed: a socket that nobody answers on is replaced. Raises
    SocketTaken or CannotListen.
    """
    _check_directory(path)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)  # before bind: there is no moment in which others may connect
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise CannotListen(f"can't listen on {path}: {error} (QM_SOCKET)") from error
    finally:
        os.umask(before)
    inode = path.stat().st_ino
    try:
        listener.listen(_BACKLOG)
        yield listener
    finally:
        listener.close()
        if path.exists() and path.stat().st_ino == inode:
            path.unlink()


def tcp_socket(address: Address) -> socket.socket | None:
    """A listening socket; None when the port is taken. Raises CannotListen."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, where = min(found, key=lambda one: one[0] != socket.AF_INET)
        return socket.create_server(where[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        raise CannotListen(f"can't listen on {address}: {error} (QM_HOST)") from error


def bound_address(listener: socket.socket) -> Address:
    """Where a TCP socket really listens."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a unix socket."""
    if sys.platform == "darwin":
        data = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size + 68)
        return int(_XUCRED.unpack_from(data)[1])
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(data)[1])


def _check_directory(path: Path) -> None:
    """Nobody else may be able to put another socket in our socket's place."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.parent.stat()
    except OSError as error:
        raise CannotListen(f"can't make the directory of {path}: {error} (QM_SOCKET)") from error
    others_write = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
    if status.st_uid not in (os.getuid(), 0) or others_write:
        raise CannotListen(f"{path.parent} is not this user's alone; choose another QM_SOCKET")


def _remove_stale(path: Path) -> None:
    """Clear what a daemon that was killed left behind. Raises SocketTaken for anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketTaken(f"{path} is in the way and is no socket (QM_SOCKET)")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_LIMIT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise SocketTaken(f"can't tell who listens on {path}: {error} (QM_SOCKET)") from error
    raise SocketTaken(f"another daemon, of another store, listens on {path} (QM_SOCKET)")
