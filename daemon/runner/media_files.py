"""What a picture or a recording says of itself, checked before anything native decodes it.

A few kilobytes can unpack to gigabytes, and what llama.cpp's helper takes for neither a picture nor
a recording it hands to programs that read any kind of video. So only known kinds pass, and only
when what they unpack to is bounded.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from .llama_error import LlamaError

MAX_FILE_BYTES: Final = 32 << 20
MAX_PIXELS: Final = 50_000_000  # of all pictures of a request
MAX_SOUND_S: Final = 1800
MAX_MP3_BYTES: Final = 4 << 20  # over an hour at the lowest rate
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_GIFS: Final = (b"GIF87a", b"GIF89a")
_BITMAP: Final = b"BM"
_MAX_SCANS: Final = 100  # each goes over the whole picture
_MAX_CHUNKS: Final = 100_000
_INFLATED_AT_ONCE: Final = 1 << 20
_JPEG_SIZE: Final = re.compile(
    rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]..[\x08\x0c](....)", re.S
)
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of PNG's colour types
_WAVE_KINDS: Final = {1, 3, 6, 7, 0xFFFE}  # PCM, float, A-law, µ-law, and those by a longer name


class _Unusable(Exception):
    """Why a file is not taken."""


def check(files: Sequence[bytes]) -> None:
    """Raises LlamaError unless all files are pictures or recordings of a bounded size."""
    pixels = 0
    for number, data in enumerate(files, 1):
        try:
            pixels += _checked(data)
            if pixels > MAX_PIXELS:
                raise _Unusable(f"has too many pixels; {MAX_PIXELS:,} are taken in a request")
        except _Unusable as error:
            raise LlamaError("bad_option", f"image {number} {error}") from None
        except (struct.error, IndexError, zlib.error):
            raise LlamaError("bad_option", f"image {number} can't be read; it is damaged") from None


def is_picture(data: bytes) -> bool:
    """Whether it begins as pictures do."""
    return data.startswith((_PNG, _JPEG, *_GIFS, _BITMAP))


def _checked(data: bytes) -> int:
    """The file's pixels; 0 for a recording."""
    if len(data) > MAX_FILE_BYTES:
        raise _Unusable(f"is too large; {MAX_FILE_BYTES >> 20} MiB are taken")
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(_JPEG):
        return _jpeg(data)
    if data.startswith(_GIFS):
        width, height = struct.unpack_from("<HH", data, 6)
        return int(width * height)
    if data.startswith(_BITMAP):
        width, height = struct.unpack_from("<ii", data, 18)
        return int(abs(width * height))
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return _wave(data)
    if data.startswith(b"fLaC"):
        return _flac(data)
    if data.startswith(b"ID3") or (len(data) > 12 and data[0] == 0xFF and data[1] >= 0xE0):
        return _mp3(data)
    raise _Unusable("can't be read; is it PNG, JPEG, GIF or BMP, or a recording in WAV?")


def _png(data: bytes) -> int:
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    pixels = width * height
    if pixels > MAX_PIXELS:
        raise _Unusable(f"has {width} x {height} pixels; {MAX_PIXELS:,} are taken in a request")
    row = (width * _CHANNELS.get(colour, 4) * depth + 7) // 8 + 1
    _check_inflated(data, 2 * row * height + _INFLATED_AT_ONCE)  # interlaced rows are more
    return int(pixels)


def _check_inflated(data: bytes, most: int) -> None:
    """Unpacks as a decoder would, but no more than `most`."""
    inflate, total = zlib.decompressobj(), 0
    for part in _idat(data):
        packed = part
        while packed and not inflate.eof:
            total += len(inflate.decompress(packed, _INFLATED_AT_ONCE))
            packed = inflate.unconsumed_tail
            if total > most:
                raise _Unusable("can't be read; it unpacks to more than its size says")


def _idat(data: bytes) -> Iterator[bytes]:
    start = len(_PNG)
    for _ in range(_MAX_CHUNKS):
        if start + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, start)
        if kind == b"IDAT":
            yield data[start + 8 : start + 8 + length]
        start += length + 12
    raise _Unusable("can't be read; it has too many parts")


def _jpeg(data: bytes) -> int:
    if data.count(b"\xff\xda") > _MAX_SCANS:
        raise _Unusable("can't be read; it has too many scans")
    sizes = [struct.unpack(">HH", found[1]) for found in _JPEG_SIZE.finditer(data)]
    if not sizes:
        raise _Unusable("can't be read; it is damaged")
    return int(max(width * height for height, width in sizes))


def _wave(data: bytes) -> int:
    rate, width, kind, start = 0, 0, 0, 12
    for _ in range(_MAX_CHUNKS):
        name, length = struct.unpack_from("<4sI", data, start)
        if name == b"fmt ":
            kind, _, rate, _, width = struct.unpack_from("<HHIIH", data, start + 8)
        if name == b"data":
            break
        start += 8 + length + length % 2
    if kind not in _WAVE_KINDS or not rate or not width:
        raise _Unusable("can't be read; only WAV without compression is taken")
    if length > len(data) - start - 8:
        raise _Unusable("can't be read; it is cut short")
    return _sound(length / width / rate)


def _flac(data: bytes) -> int:
    packed = int.from_bytes(data[18:26], "big")
    rate, samples = packed >> 44, packed & ((1 << 36) - 1)
    if not rate or not samples:
        raise _Unusable("can't be read; it doesn't tell its length")
    return _sound(samples / rate)


def _mp3(data: bytes) -> int:
    if len(data) > MAX_MP3_BYTES:
        raise _Unusable(f"is too large; {MAX_MP3_BYTES >> 20} MiB of MP3 are taken")
    return 0


def _sound(seconds: float) -> int:
    if seconds > MAX_SOUND_S:
        raise _Unusable(f"is too long; {MAX_SOUND_S // 60} minutes are taken")
    return 0
