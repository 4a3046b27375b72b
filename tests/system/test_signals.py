"""Signals: noted and read between steps, held back in a save, and given back in the end."""

import ctypes
import os
import signal
import sys
import threading

import pytest

from system import signals
from system.signals import StopSignals


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture
def with_terminal(monkeypatch):
    monkeypatch.setattr(signals.signal, "getsignal", lambda number: signal.SIG_DFL)  # as if not under nohup, which the tests may be


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted(with_terminal, number):
    with StopSignals() as stop:
        stop.check()
        assert stop.received is None
        send(number)
        assert stop.received == number
        with pytest.raises(StopSignals.Received):
            stop.check()


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGTERM, "stopping\n"), (signal.SIGINT, "stopping; Ctrl-C again does not wait, and saves nothing\n")]
)
def test_it_is_said_while_the_step_is_still_being_computed(monkeypatch, number, words):
    """Python looks for signals only after the call of C that is under way: here a read that waits for what is said."""
    (said, stderr), (step, done) = os.pipe(), os.pipe()
    heard, go, interval = [], threading.Lock(), sys.getswitchinterval()

    def act():
        go.acquire()
        signal.pthread_kill(threading.get_ident(), number)
        heard.append((os.read(said, 200).decode(), stop.received))
        os.write(done, b"!")

    with open(stderr, "w") as stream, StopSignals("stopping") as stop:
        monkeypatch.setattr(sys, "stderr", stream)
        go.acquire()
        threading.Thread(target=act).start()
        sys.setswitchinterval(60)  # the other thread runs when this one waits, and not before
        go.release()
        ctypes.CDLL(None).read(step, ctypes.create_string_buffer(1), 1)
        sys.setswitchinterval(interval)
        assert stop.received == number
        send(signal.SIGTERM)  # said once
    assert heard == [(words, None)]
    os.set_blocking(said, False)
    assert os.read(said, 200) == b""
    for number in (said, step, done):
        os.close(number)


def test_without_words_nothing_is_said(capfd):
    with StopSignals():
        send(signal.SIGTERM)
    assert capfd.readouterr() == ("", "")


def test_nohup_is_respected(monkeypatch):
    monkeypatch.setattr(signals.signal, "getsignal", lambda number: signal.SIG_IGN)
    with StopSignals() as stop:
        assert signal.SIGHUP not in stop.previous


def test_the_second_ctrl_c_stops_at_once_but_in_a_save():
    with StopSignals() as stop:
        with stop.held_back():
            send(signal.SIGINT)
            send(signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_other_second_signals_are_patient():
    with StopSignals() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            send(number)
        assert stop.received == signal.SIGINT  # the last one


def test_a_save_that_fails_does_not_hold_signals_back_for_ever():
    with StopSignals() as stop:
        with pytest.raises(OSError), stop.held_back():
            raise OSError
        assert not stop.held


def test_the_handlers_of_before_come_back():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(ValueError), StopSignals():
        raise ValueError
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1
