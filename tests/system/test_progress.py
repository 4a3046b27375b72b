"""Progress as plain lines and as a live bar."""

import contextlib
import io
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from system import storage
from system.progress import Costs, Progress


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


# --- costs

X, Y = Path("x"), Path("y")


def lines(costs: Costs, clock, seconds: float, size: int, count: int, remedy: str = "") -> dict[int, str]:
    """What is said after which of `count` items that take so many seconds and bytes each."""
    begin, said = time.monotonic(), {}
    for done in range(1, count + 1):
        clock(begin + seconds * done)
        if line := costs.after(size, remedy):
            said[done] = line
    return said


@pytest.fixture
def costs(clock) -> Costs:
    costs = Costs({X: 1000, Y: 3000}, "pictures")
    costs.begin(X)
    return costs


@pytest.fixture
def free(monkeypatch):
    """Sets how many bytes are free on the disk."""
    usage = SimpleNamespace(free=1e15)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    return lambda size: setattr(usage, "free", size)


def test_what_is_soon_done_and_small_is_not_told(costs, clock, free):
    assert lines(costs, clock, 0.015, 250_000, 1000) == {}


@pytest.mark.parametrize(
    "seconds, size, after, words",
    [
        (0.2, 775_000, 20, "x and y: 4,000 pictures will take about 3.1 GB and 13 min"),
        (0.02, 775_000, 150, "x and y: 4,000 pictures will take about 3.1 GB and 1 min"),
        (3, 1000, 20, "x and y: 4,000 pictures will take about 4 MB and 3 h 20 min"),
    ],
)
def test_costs_are_told_once_when_enough_is_known(costs, clock, free, seconds, size, after, words):
    assert lines(costs, clock, seconds, size, 1000) == {after: words}
    costs.begin(Y)
    assert lines(costs, clock, seconds, size, 3000) == {}


def test_what_makes_them_less_is_named(costs, clock, free):
    assert lines(costs, clock, 1, 1, 20, "--smaller")[20].endswith(" 1 h 07 min; --smaller")


def test_costs_that_turn_out_higher_are_told_again(costs, clock, free):
    assert set(lines(costs, clock, 0.2, 0, 1000)) == {20}
    costs.begin(Y)
    assert lines(costs, clock, 0.41, 0, 3000) == {20: "y: 3,000 pictures will take about 0 MB and 20 min"}


def test_a_disk_that_will_be_full_is_told_before_it_is(costs, clock, free):
    free(300e6)
    words = "x and y: 4,000 pictures will take about 0.4 GB, of which 0.3 GB are free, and 13 min"
    assert lines(costs, clock, 0.2, 100_000, 1000) == {20: words}
    costs.begin(Y)
    assert lines(costs, clock, 0.01, 190_000, 3000) == {}  # no more than was said
    costs = Costs({Y: 3000}, "pictures")
    costs.begin(Y)
    assert set(lines(costs, clock, 0.01, 200_000, 3000)) == {300}


def test_of_remote_storage_nobody_knows_what_is_free(clock, free):
    free(0)
    costs = Costs({storage.path("gs://bucket/x"): 1000}, "pictures")
    costs.begin(storage.path("gs://bucket/x"))
    assert lines(costs, clock, 0.02, 1, 1000) == {}
