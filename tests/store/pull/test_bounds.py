"""Answers about models that are far too long, however that is hidden."""

from __future__ import annotations

import gzip
import http.server
import json
import resource
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from huggingface_hub import constants
from qm.store.errors import QmError
from qm.store.image import ManifestInvalid
from qm.store.name import Name
from qm.store.pull import session
from qm.store.pull.answers import AnswerRefused
from qm.store.pull.hub import list_repo
from qm.store.pull.oci import pull_image
from qm.store.pull.registry import Endpoint
from qm.store.store import Store

MOST_GROWTH_KIB = 200 << 10
LISTING = {"id": "org/x", "sha": "a" * 40, "siblings": [{"rfilename": "m.gguf", "size": 3}]}


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers every GET in the way that the test wants."""

    protocol_version = "HTTP/1.1"
    way: ClassVar[str] = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        try:
            getattr(self, f"send_{self.way}")()
        except OSError:  # hung up on, as it should be
            self.close_connection = True

    do_HEAD = do_GET

    def send_bomb(self) -> None:
        """10 MB that unpack to 10 GB."""
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        self._begin("gzip")
        for _ in range(10240):
            self._chunk(packer.compress(b" " * (1 << 20)))

    def send_flood(self) -> None:
        self._begin("")
        while True:
            self._chunk(b" " * (1 << 20))

    def send_crumbs(self) -> None:
        """One byte at a time, for ever."""
        self._begin("")
        while True:
            self._chunk(b" ")

    def send_boast(self) -> None:
        """Announces a terabyte."""
        self.send_header("Content-Length", str(10**12))
        self.end_headers()
        self.wfile.write(b"{}")

    def send_strange(self) -> None:
        self._begin("br")
        self._chunk(b"whatever")
        self._chunk(b"", last=True)

    def send_packed(self) -> None:
        """What was not asked for, but is sensible."""
        self._begin("gzip")
        self._chunk(gzip.compress(json.dumps(LISTING).encode()))
        self._chunk(b"", last=True)

    def _begin(self, coding: str) -> None:
        if coding:
            self.send_header("Content-Encoding", coding)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data: bytes, *, last: bool = False) -> None:
        if data or last:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *_arguments: object) -> None:
        """Silence."""


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("bomb", "longer than 32 MiB"),
        ("flood", "longer than 32 MiB"),
        ("crumbs", "took over"),
        ("boast", "longer than 32 MiB"),
        ("strange", "packs its answers"),
    ],
)
def test_the_hub_can_not_fill_the_memory(
    liar: str, monkeypatch: pytest.MonkeyPatch, way: str, words: str
) -> None:
    """It is refused with the reason, once and for all."""
    monkeypatch.setattr(_Handler, "way", way)
    monkeypatch.setattr(session, "MOST_ANSWER_S", 1.0 if way == "crumbs" else 60.0)
    before = peak_kib()
    with pytest.raises(AnswerRefused, match=words):
        list_repo("org/x", endpoint=liar)
    assert peak_kib() - before < MOST_GROWTH_KIB


def test_packed_answers_of_a_sensible_length_are_read(
    liar: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Handler, "way", "packed")
    assert [file.path for file in list_repo("org/x", endpoint=liar).files] == ["m.gguf"]


@pytest.mark.parametrize("way", ["bomb", "flood", "crumbs", "boast", "strange"])
def test_a_registry_can_not_fill_the_memory(
    store: Store, liar: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Its manifest is bounded too."""
    monkeypatch.setattr(_Handler, "way", way)
    monkeypatch.setattr("qm.store.pull.registry.MOST_ANSWER_S", 1.0)
    before = peak_kib()
    host = liar.removeprefix("http://")
    with pytest.raises(QmError) as refused:
        pull_image(
            store, Endpoint(liar, trusted=True), Name.parse(f"{host}/org/x"), lambda _step: None
        )
    assert isinstance(refused.value, ManifestInvalid) or refused.value.code in (
        "answer_refused",
        "registry_unreachable",
    )
    assert peak_kib() - before < MOST_GROWTH_KIB
    assert store.blobs.list() == []
