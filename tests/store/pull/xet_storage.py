"""Xet storage on loopback for the real hf_xet: one file, cut into chunks that nobody shares.

Speaks the part of Hugging Face's protocol that a download takes: which chunks make up a range of
the file, and the chunks themselves, uncompressed.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHUNK_BYTES = 64 << 10
XORB_CHUNKS = 1 << 6  # chunks that are kept as one object
_HEADER_BYTES = 8  # of each chunk
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class _Storage(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.path = path
        self.size_bytes = path.stat().st_size
        self.n_chunks = -(-self.size_bytes // CHUNK_BYTES)
        self.sent_bytes = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def made_of(self, first: int, last: int) -> dict[str, object]:
        """What the bytes `first` to `last` of the file are made of."""
        chunk, end = first // CHUNK_BYTES, last // CHUNK_BYTES + 1
        terms, where = list[object](), dict[str, object]()
        while chunk < end:
            xorb, at = divmod(chunk, XORB_CHUNKS)
            until = min(end, chunk + XORB_CHUNKS - at)
            said = {"start": at, "end": at + until - chunk}
            length = min(until * CHUNK_BYTES, self.size_bytes) - chunk * CHUNK_BYTES
            name = f"{xorb + 1:064x}"
            terms.append({"hash": name, "unpacked_length": length, "range": said})
            start = at * (CHUNK_BYTES + _HEADER_BYTES)
            packed = length + (until - chunk) * _HEADER_BYTES
            bounds = {"start": start, "end": start + packed - 1}
            where[name] = [{"range": said, "url": f"{self.url}/{xorb}", "url_range": bounds}]
            chunk = until
        offset = first % CHUNK_BYTES
        return {"offset_into_first_range": offset, "terms": terms, "fetch_info": where}

    def chunks(self, xorb: int, first: int, last: int) -> Iterator[bytes]:
        """The chunks of an object that its bytes `first` to `last` hold, with their headers."""
        step = CHUNK_BYTES + _HEADER_BYTES
        begin = xorb * XORB_CHUNKS + first // step
        with self.path.open("rb") as file:
            file.seek(begin * CHUNK_BYTES)
            for _ in range(first // step, last // step + 1):
                data = file.read(CHUNK_BYTES)
                size = len(data).to_bytes(3, "little")
                yield b"\0" + size + b"\0" + size + data


class _Handler(BaseHTTPRequestHandler):
    server: _Storage
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = _RANGE.fullmatch(self.headers.get("Range", "bytes=0-"))
        assert asked is not None
        first, size_bytes = int(asked[1]), self.server.size_bytes
        if self.path.startswith("/v1/reconstructions/"):
            last = min(int(asked[2] or size_bytes), size_bytes - 1)
            if first >= size_bytes:
                self._begin(416, 0)
                return
            body = json.dumps(self.server.made_of(first, last)).encode()
            self._begin(200, len(body))
            self.wfile.write(body)
        elif self.path[1:].isdecimal():
            last = int(asked[2])
            self._begin(206, last - first + 1, f"bytes {first}-{last}/*")
            for piece in self.server.chunks(int(self.path[1:]), first, last):
                self.wfile.write(piece)
                self.server.sent_bytes += len(piece)
        else:
            self._begin(404, 0)

    def _begin(self, status: int, length: int, which: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if which:
            self.send_header("Content-Range", which)
        self.end_headers()

    def log_message(self, *_about: object) -> None:
        """Silent."""

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            return  # a client that has enough


@contextmanager
def xet_storage(path: Path) -> Iterator[_Storage]:
    """Serves the file at `path`, whatever hash it is asked for by."""
    with _Storage(path) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
