"""What `qm status` says of the daemon, and that it serves where it can."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from qm.cli.server import status_text

if TYPE_CHECKING:
    from tests.conftest import LiveDaemon


def test_status_is_one_fact_a_line() -> None:
    """Lists are joined, nothing is called none, and times are words."""
    text = status_text({"pid": 7, "uptime_s": 61, "host": None, "models": [{"name": "a"}, "b"]})
    assert text.splitlines() == [
        "uptime:     1 minute",
        "pid:        7",
        "host:       none",
        "models:     a, b",
    ]


def test_a_taken_port_leaves_the_socket(start_daemon: Callable[..., LiveDaemon]) -> None:
    """The daemon serves its socket alone, and both status and log say so."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        daemon = start_daemon(QM_HOST=taken)
        assert json.loads(daemon.qm("status", "--json").stdout)["host"] is None
        assert "host:       none" in daemon.qm("status").stdout
        assert f"event=port_taken host={taken}" in daemon.qm("logs").stdout
