"""Exit statuses, one-line errors, ordered work and progress."""

import argparse
import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tensorflow as tf

from system import cli, devices, threads
from system.progress import Progress

ROOT = Path(__file__).parents[2]
OUT_OF_MEMORY = "out of memory: make the pictures, the batch or the networks smaller"


def raiser(error: BaseException):
    def main(argv):
        raise error

    return main


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch) -> Terminal:
    """A terminal of 60 columns."""
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal()


# --- run


@pytest.mark.parametrize("returned, status", [(None, 0), (cli.DONE, 0), (cli.PARTIAL, 1)])
def test_run_returns_the_status_of_the_command_and_says_nothing(call, returned, status):
    outcome = call(lambda argv: returned)
    assert (outcome.status, outcome.out, outcome.err) == (status, "", "")


@pytest.mark.parametrize(
    "error, status, line",
    [
        (cli.InputError("--size 3: too small; use 8"), 2, "--size 3: too small; use 8"),
        (cli.InputError("a name with\na line break"), 2, "a name with a line break"),
        (cli.Stopped("stopped at step 3; go on with: train.py"), 1, "stopped at step 3; go on with: train.py"),
        (OSError(errno.EROFS, "Read-only file system", "runs/a"), 1, "runs/a: Read-only file system"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"), 2, "a.png: No such file or directory"),
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), 1, "a.png: No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, "output: Disk quota exceeded"),
        (OSError("no number"), 2, "output: no number"),
        (tf.errors.ResourceExhaustedError(None, None, "a; No space left on device"), 1, "output: No space left on device"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"), 1, OUT_OF_MEMORY),
        (MemoryError(), 1, OUT_OF_MEMORY),
        (KeyboardInterrupt(), 130, "interrupted"),
        (cli.Terminated(), 143, "terminated"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else None,
)
def test_run_reports_an_error_in_one_line(call, monkeypatch, error, status, line):
    monkeypatch.setattr(sys, "argv", ["some/where/command.py"])
    outcome = call(raiser(error))
    assert (outcome.status, outcome.out, outcome.err) == (status, "", f"command.py: {line}\n")


@pytest.mark.parametrize(
    "error", [ValueError("a"), RuntimeError("No space left on device"), tf.errors.InvalidArgumentError(None, None, "a")]
)
def test_run_does_not_hide_the_programs_own_errors(error):
    with pytest.raises(type(error)):
        cli.run(raiser(error), [])


def test_run_clears_a_bar_before_its_line(terminal):
    with contextlib.redirect_stderr(terminal):
        cli.run(raiser(cli.InputError("wrong")), [])
    assert terminal.getvalue().startswith("\r\033[K") and terminal.getvalue().endswith(": wrong\n")


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_and_leaves_nothing_behind(tmp_path, number, status):
    program = """
import signal, sys
from system import cli, storage
def main(argv):
    with storage.whole(storage.path(argv[0])) as file:
        file.write_text("half")
        print("begun", flush=True)
        while True:
            signal.pause()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background without it
sys.exit(cli.run(main, sys.argv[1:]))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "new" / "file")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == status
    assert err.count("\n") == 1, err
    assert list(tmp_path.iterdir()) == []


# --- Parser and number


def options(*argv: str):
    parser = cli.Parser("What it does.\n\nA paragraph.")
    parser.add_argument("--image_size", type=cli.number(int, 8, multiple=4), default=256, help="side")
    parser.add_argument("--rate", type=cli.number(float, 0, 2), help="speed")
    return parser.parse_args(argv)


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--image_siz", "64"], "--image_siz"),
        (["--rat=1"], "--rat=1"),
        (["--image_size"], "--image_size: expected one argument"),
        (["--image_size", "4"], "--image_size: 4 is out of range: use at least 8"),
        (["--image_size", "-8"], "-8"),
        (["--image_size", "30"], "--image_size: 30 is not a multiple of 4: use 28 or 32"),
        (["--image_size", "9.5"], "invalid int value: '9.5'"),
        (["--rate", "3"], "--rate: 3 is out of range: use from 0 to 2"),
        (["--rate", "nan"], "nan"),
        (["--rate", "x"], "invalid float value: 'x'"),
        (["--rate", ""], "--rate: '' is empty"),
        (["--rate=--"], "--rate: '--' is no value"),
        (["--rate", "a\0b"], "--rate: 'a\\x00b' has a NUL character"),
        (["--rate", "\udcff"], "--rate: '\\udcff' is not UTF-8"),
        (["\udcff"], "unrecognized arguments: \\udcff"),
        (["stray"], "stray"),
    ],
)
def test_parser_refuses_in_one_line_without_usage(call, argv, words):
    call(lambda argv: options(*argv), *argv).assert_refused(words, "--help")


@pytest.mark.parametrize(
    "kind, low, high, text, refusal",
    [
        (float, 0, float("inf"), "inf", "inf is not a finite number"),
        (float, 0, float("inf"), "1e999", "1e999 is not a finite number"),
        (float, 0, float("inf"), "nan", "nan is out of range: use at least 0"),
        (float, 1, 2, "nan", "nan is out of range: use from 1 to 2"),
        (int, 0, 2**31 - 1, str(2**31), "2147483648 is out of range: use from 0 to 2147483647"),
        (int, 1, float("inf"), str(2**31), "2147483648 is out of range: use from 1 to 2147483647"),
    ],
)
def test_number_says_what_is_wrong(kind, low, high, text, refusal):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{refusal}$"):
        cli.number(kind, low, high)(text)


@pytest.mark.parametrize("text, value", [("0", 0.0), ("2", 2.0), ("1e-4", 1e-4)])
def test_number_includes_its_limits(text, value):
    assert cli.number(float, 0, 2)(text) == value


def test_help_shows_paragraphs_and_the_defaults_that_say_something(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.run(lambda argv: options(*argv), ["--help"])
    out = capsys.readouterr().out
    assert not exit.value.code
    assert "What it does.\n\nA paragraph.\n" in out and "side (default: 256)" in out and "None" not in out


# --- a quiet TensorFlow


def test_quiet_tensorflow_says_nothing():
    command = [sys.executable, "-c", "from system import devices; devices.quiet_tensorflow(); import keras"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_was_held_back_comes_out_when_it_matters(capfd):
    with devices.silent_stderr():
        os.write(2, b"chatter\n")
    with pytest.raises(ImportError), devices.silent_stderr():
        os.write(2, b"the reason\n")
        raise ImportError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "the reason\nafter\n"


# --- in_order


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def test_in_order_keeps_the_order_whatever_is_done_first(two_cores):
    second_done = threading.Event()

    def work(item):
        if item == 0:
            assert second_done.wait(60)
        if item == 1:
            second_done.set()
        return item * 10

    assert list(threads.in_order(work, range(50))) == [(i, 10 * i) for i in range(50)]


def test_in_order_looks_only_a_little_ahead(two_cores):
    pulled = 0

    def endless():
        nonlocal pulled
        while True:
            yield pulled
            pulled += 1

    results = threads.in_order(str, endless())
    assert [next(results) for _ in range(3)] == [(0, "0"), (1, "1"), (2, "2")]
    assert pulled <= 3 + 8
    results.close()


@pytest.mark.parametrize("count", [4, 100])  # fewer and more than are held
def test_in_order_passes_an_error_on_in_its_place(two_cores, count):
    results = threads.in_order(lambda item: 1 // (3 - item), range(count))
    assert [next(results) for _ in range(3)] == [(0, 0), (1, 0), (2, 1)]
    with pytest.raises(ZeroDivisionError):
        next(results)


# --- Progress


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
    assert capsys.readouterr().err == "4/10 steps  loss 1.0  1:00 left\n7/10 steps  loss 1.0  0:30 left\n"


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
            progress.update(done, lambda: "loss " + "1" * 100)
        progress.close()
    lines = terminal.getvalue().split("\r\033[K")[1:]
    assert lines[0].startswith("━" * 12 + "╌" * 12 + " 2/4 pictures  loss 111")
    assert lines[1].startswith("━" * 24 + " 4/4 pictures")
    assert [len(line) for line in lines] == [59, 59, 0] and "\n" not in terminal.getvalue()
