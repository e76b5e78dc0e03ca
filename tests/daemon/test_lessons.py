"""What devices took beyond predictions is remembered."""

from __future__ import annotations

from pathlib import Path

from qm.daemon.lessons import SHORT_S, Lessons


def test_the_most_is_remembered_across_restarts(tmp_path: Path) -> None:
    """Less than that, and less than nothing, teaches nothing."""
    path = tmp_path / "devices.json"
    lessons = Lessons(path)
    lessons.learn({"CUDA0": 300, "CUDA1": -5})
    lessons.learn({"CUDA0": 200})
    again = Lessons(path)
    assert again.extra_bytes("CUDA0") == 300
    assert again.extra_bytes("CUDA1") == 0


def test_a_lesson_has_a_limit(tmp_path: Path) -> None:
    """What is somebody else's memory must not close a device for ever."""
    lessons = Lessons(tmp_path / "devices.json")
    lessons.learn({"CUDA0": 1 << 60})
    assert lessons.extra_bytes("CUDA0") == 4 << 30


def test_a_damaged_file_is_no_lesson(tmp_path: Path) -> None:
    """It is written anew."""
    path = tmp_path / "devices.json"
    path.write_text("{not json")
    lessons = Lessons(path)
    assert lessons.extra_bytes("CUDA0") == 0
    lessons.learn({"CUDA0": 1})
    assert Lessons(path).extra_bytes("CUDA0") == 1


def test_room_that_was_not_there_is_not_counted_on_for_a_while(tmp_path: Path) -> None:
    """A device may be short because of somebody else, so that lesson ends by itself."""
    now = [100.0]
    lessons = Lessons(tmp_path / "devices.json", clock=lambda: now[0])
    lessons.learn({"CUDA0": 5})
    lessons.fell_short({"CUDA0": 300})
    lessons.fell_short({"CUDA0": 40})
    assert lessons.extra_bytes("CUDA0") == 345
    assert Lessons(tmp_path / "devices.json").extra_bytes("CUDA0") == 5
    now[0] += SHORT_S
    assert lessons.extra_bytes("CUDA0") == 5
