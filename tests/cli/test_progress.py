"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io

from qm.cli.progress import CLEAR_LINE, Progress, Spinner, Step, step_line


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds, as the test sets them."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def items(*completed: int) -> list[dict[str, object]]:
    """Steps of one copy of 1 kB, and the end."""
    copies = [{"status": "copying", "completed": done, "total": 1000} for done in completed]
    return [*copies, {"status": "success", "digest": "sha256:x"}]


def test_a_log_gets_each_status_once() -> None:
    """No bars, no control characters; the last item is the result, and not shown."""
    out = io.StringIO()
    result = Progress(out).follow(items(0, 500, 1000))
    assert out.getvalue() == "copying\n"
    assert result["digest"] == "sha256:x"


def test_a_log_hears_of_a_long_step_now_and_then() -> None:
    """A line every ten seconds, with what the terminal's bar tells."""
    out, clock = io.StringIO(), Clock()
    progress = Progress(out, clock)
    for now, done in ((0.0, 0), (5.0, 100), (10.0, 200), (15.0, 300), (21.0, 420)):
        clock.now = now
        progress.show(Step("copying", done, 1000))
    assert out.getvalue().splitlines() == [
        "copying",
        "copying  20%  200 B/1.0 kB  20 B/s  40 seconds",
        "copying  42%  420 B/1.0 kB  20 B/s  29 seconds",
    ]


def test_a_terminal_gets_a_bar_that_ends_full() -> None:
    """The bar is drawn over itself; between drawings is a tenth of a second, but for the last."""
    out, clock = Terminal(), Clock()
    Progress(out, clock).follow(items(0, 1, 2, 1000))
    first, *drawn = out.getvalue().split(CLEAR_LINE)[1:]
    assert first.startswith("copying")
    assert len(drawn) == 1
    assert drawn[0].endswith(" 100%  1.0 kB/1.0 kB\n")


def test_a_step_tells_rate_and_time_left() -> None:
    """As long as it isn't done."""
    line = step_line(Step("copying", 500, 1000), rate=100.0)
    assert line.endswith("50%  500 B/1.0 kB  100 B/s  5 seconds")
    assert step_line(Step("writing manifest"), rate=0.0) == "writing manifest"


def test_one_of_several_files_tells_how_far_all_are() -> None:
    """Behind what it says of itself."""
    line = step_line(Step("pulling", 500, 1000, "", 2500, 5000), rate=100.0)
    assert line.endswith("100 B/s  5 seconds  (of 5.0 kB: 50%, 25 seconds)")
    assert "(of" not in step_line(Step("pulling", 500, 1000, "", 500, 1000), rate=100.0)


def test_an_error_leaves_the_last_line_standing() -> None:
    """What follows begins on a line of its own."""
    out = Terminal()
    progress = Progress(out)
    progress.show(Step("copying"))
    progress.close()
    assert out.getvalue().endswith("copying\n")


def test_a_spinner_is_gone_when_it_stops() -> None:
    """Its last act is to clear its line; stopping twice is fine; a short wait shows nothing."""
    out = Terminal()
    with Spinner(out, "loading") as spinner:
        spinner.stop()
        assert out.getvalue() == ""

    class Watched(Terminal):
        def flush(self) -> None:
            if "loading" in self.getvalue():
                patient.stop_soon()

    class Patient(Spinner):
        def stop_soon(self) -> None:
            self._stopped.set()

    watched = Watched()
    with Patient(watched, "loading") as patient:
        assert patient._thread is not None
        patient._thread.join(10)
    assert watched.getvalue().endswith(CLEAR_LINE)
    assert "loading" in watched.getvalue()


def test_a_spinner_is_silent_elsewhere() -> None:
    """No control characters in a log."""
    out = io.StringIO()
    with Spinner(out, "loading"):
        pass
    assert out.getvalue() == ""
