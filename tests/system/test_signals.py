"""Signals: noted and read between steps, held back in a save, and given back in the end."""

import os
import signal

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
