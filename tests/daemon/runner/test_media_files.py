"""No picture and no recording unpacks to more than it may, whatever it says of itself."""

from __future__ import annotations

import struct
import zlib

import pytest
from qm.daemon.runner.llama_error import LlamaError
from qm.daemon.runner.media_files import MAX_FILE_BYTES, MAX_MP3_BYTES, MAX_PIXELS, check


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, packed: bytes | None = None, colour: int = 2) -> bytes:
    rows = (b"\0" + b"\x80" * 3 * width) * height if packed is None else b""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    idat = zlib.compress(rows) if packed is None else packed
    parts = chunk(b"IHDR", header), chunk(b"IDAT", idat), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg(width: int, height: int, scans: int = 1) -> bytes:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\1\x11\0"
    return b"\xff\xd8\xff\xe0\0\4ab" + frame + b"\xff\xda\0\4ab" * scans + b"\xff\xd9"


def wav(seconds: float, rate: int = 8000, kind: int = 1, claimed: int | None = None) -> bytes:
    data = b"\0" * int(seconds * rate)
    length = len(data) if claimed is None else claimed
    form = struct.pack("<HHIIHH", kind, 1, rate, rate, 1, 8)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", length)
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


def flac(seconds: int, rate: int = 44_100) -> bytes:
    packed = (rate << 44) | (seconds * rate)
    return b"fLaC\0\0\0\x22" + bytes(10) + packed.to_bytes(8, "big") + bytes(16)


BOMB = zlib.compress(bytes(40 << 20))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(8, 8), id="png"),
        pytest.param(jpeg(4000, 3000), id="jpeg"),
        pytest.param(b"GIF89a" + struct.pack("<HH", 100, 100), id="gif"),
        pytest.param(b"BM" + bytes(16) + struct.pack("<ii", 100, -100), id="bmp upside down"),
        pytest.param(wav(1.0), id="wav"),
        pytest.param(flac(60), id="flac"),
        pytest.param(b"ID3" + bytes(1000), id="mp3"),
    ],
)
def test_what_is_reasonable_passes(data: bytes) -> None:
    check([data, data])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(png(100_000, 100_000, BOMB), "100000 x 100000 pixels", id="png too wide"),
        pytest.param(png(8, 8, BOMB), "unpacks to more", id="png bomb"),
        pytest.param(jpeg(65_000, 65_000), "too many pixels", id="jpeg too wide"),
        pytest.param(jpeg(100, 100, 101), "too many scans", id="jpeg of scans"),
        pytest.param(jpeg(9, 9)[:9], "damaged", id="jpeg cut short"),
        pytest.param(b"GIF89a" + b"\xff" * 4, "too many pixels", id="gif too wide"),
        pytest.param(b"BM" + bytes(16) + b"\xff\xff\xff\x7f" * 2, "too many pixels", id="bmp"),
        pytest.param(b"BM", "damaged", id="bmp cut short"),
        pytest.param(png(8, 8)[:20], "damaged", id="png cut short"),
        pytest.param(bytes(MAX_FILE_BYTES + 1), "too large", id="too large"),
        pytest.param(wav(2000), "too long", id="long wav"),
        pytest.param(wav(3000, rate=1), "too long", id="slow wav"),
        pytest.param(wav(1.0, claimed=0xFFFFFFF0), "cut short", id="wav that lies"),
        pytest.param(wav(1.0, kind=2), "without compression", id="packed wav"),
        pytest.param(wav(1.0)[:30], "damaged", id="wav without data"),
        pytest.param(flac(90_000), "too long", id="long flac"),
        pytest.param(flac(0), "its length", id="flac without length"),
        pytest.param(b"\xff\xfb" + bytes(MAX_MP3_BYTES), "too large", id="long mp3"),
        pytest.param(b"\0\0\0\x18ftypmp42" + bytes(99), "is it PNG", id="video"),
        pytest.param(b"#EXTM3U\nfile:///etc/passwd", "is it PNG", id="playlist"),
        pytest.param(b"<svg/>", "is it PNG", id="text"),
        pytest.param(b"", "is it PNG", id="nothing"),
    ],
)
def test_what_is_not_is_refused(data: bytes, reason: str) -> None:
    """With the picture's number and the reason, having unpacked next to nothing."""
    with pytest.raises(LlamaError, match=f"image 2 .*({reason})") as refused:
        check([png(4, 4), data])
    assert refused.value.code == "bad_option"


def test_many_pictures_count_together() -> None:
    one = jpeg(5000, MAX_PIXELS // 5000 // 2)
    check([one, one])
    with pytest.raises(LlamaError, match="image 3 has too many pixels"):
        check([one, one, one])
