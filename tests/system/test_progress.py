"""Progress as plain lines and as a live bar."""

import contextlib
import io
import time

import pytest

from system.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    """A terminal of 60 columns."""
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal()


@pytest.fixture
def clock(monkeypatch):
    """Sets what time it is, in seconds."""
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)

    def clock(now: float) -> None:
        clock.now = now

    clock(0)
    return clock


def test_progress_is_a_plain_line_every_30_seconds(capsys, clock):
    progress = Progress(10, "steps")
    for now, done in [(10, 2), (29, 3), (30, 4), (31, 5), (59, 6), (60, 7)]:
        clock(now)
        progress.update(done, lambda: "loss 1.0")
    progress.close()
    assert capsys.readouterr().err == "4/10 steps  1:00 left  loss 1.0\n7/10 steps  0:30 left  loss 1.0\n"


def test_progress_describes_only_what_it_draws_unless_forced(capsys, clock):
    progress = Progress(10, "steps")
    clock(1)
    progress.update(1, lambda: pytest.fail("described without being drawn"))
    progress.update(1, force=True)
    assert capsys.readouterr().err == "1/10 steps\n"


@pytest.mark.parametrize(
    "done, now, left",
    [
        (1, 40, ""),
        (2, 40, "  4:40 left"),
        (5, 3599, "  59:59 left"),
        (2, 3600, "  7 h 00 min left"),
        (5, 5400, "  1 h 30 min left"),
        (9, 60, "  0:00 left"),
    ],
)
def test_progress_estimates_the_time_left_by_what_came_after_the_first_update(capsys, clock, done, now, left):
    progress = Progress(9, "steps")
    clock(20)
    progress.update(1)
    clock(20 + now)
    progress.update(done)
    assert capsys.readouterr().err == f"{done}/9 steps{left}\n"


def test_a_line_that_stays_takes_the_bars_place(terminal):
    with contextlib.redirect_stderr(terminal):
        progress = Progress(10, "steps")
        progress.update(5, force=True)
        progress.say("a warning")
    assert terminal.getvalue().endswith("\r\033[K" + "a warning\n")


def test_progress_is_a_live_bar_on_a_terminal(terminal, clock):
    with contextlib.redirect_stderr(terminal):
        progress = Progress(4, "pictures")
        for now, done in [(0.1, 1), (1, 2), (1.1, 3), (3, 4)]:
            clock(now)
            progress.update(done, lambda: "loss 1.0")
        progress.close()
    lines = terminal.getvalue().split("\r\033[K")[1:]
    assert lines[0] == "━╌╌ 2/4 pictures  0:02 left  loss 1.0"
    assert lines[1].startswith("━━━ 4/4 pictures") and lines[2] == ""
    assert len(lines) == 3 and "\n" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (200, "━━╌╌╌╌╌╌╌╌╌╌ 2000/12000 steps  2 h 46 min left  1.00 pictures/s  epoch 1.2 of 200  G 0.123  cycle 2.345"),
        (80, "╌╌╌╌ 2000/12000 steps  2 h 46 min left  1.00 pictures/s  epoch 1.2 of 200"),
        (75, "╌╌╌╌ 2000/12000 steps  2 h 46 min left  1.00 pictures/s  epoch 1.2 of 200"),
        (74, "╌╌╌╌ 2000/12000 steps  2 h 46 min left  1.00 pictures/s"),
        (60, "╌╌╌ 2000/12000 steps  2 h 46 min left  1.00 pictures/s"),
        (45, "╌╌ 2000/12000 steps  2 h 46 min left"),
        (10, " 2000/120"),
    ],
)
def test_a_narrow_terminal_shows_the_first_parts_whole(terminal, clock, monkeypatch, columns, shown):
    monkeypatch.setenv("COLUMNS", str(columns))
    with contextlib.redirect_stderr(terminal):
        progress = Progress(12000, "steps")
        progress.update(1000, force=True)
        clock(1000)
        progress.update(2000, lambda: "1.00 pictures/s  epoch 1.2 of 200  G 0.123  cycle 2.345")
    assert terminal.getvalue().rpartition("\033[K")[2] == shown
