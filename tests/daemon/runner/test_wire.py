"""Frames survive any cutting, and broken ones are noticed."""

from __future__ import annotations

import pytest
from qm.daemon.runner import wire


def test_frames_arrive_whole_however_the_stream_is_cut() -> None:
    """Two frames, cut at every byte."""
    sent: list[wire.ToRunner] = [wire.Generate(1, wire.Options(stop=("x",)), "Hä?"), wire.Cancel(1)]
    data = b"".join(wire.encode(message) for message in sent)
    for cut in range(len(data) + 1):
        reader = wire.FrameReader()
        bodies = reader.feed(data[:cut]) + reader.feed(data[cut:])
        assert [wire.decode_to_runner(body) for body in bodies] == sent


def test_nonsense_is_a_broken_peer() -> None:
    """An oversized length, bytes that are no msgpack, an unknown tag, the wrong direction."""
    with pytest.raises(wire.BrokenPeer):
        wire.FrameReader().feed(b"\xff\xff\xff\xff")
    for body in (b"", b"\xc1", wire.encode(wire.Pong(1))[4:]):
        with pytest.raises(wire.BrokenPeer):
            wire.decode_to_runner(body)
    with pytest.raises(wire.BrokenPeer):
        wire.decode_from_runner(wire.encode(wire.Ping(1))[4:])
