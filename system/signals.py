"""Signals that ask a run to stop."""

import contextlib
import signal
from collections.abc import Iterator


class StopSignals:
    """Turns the first Ctrl-C, SIGTERM or hang-up into a note that the loop reads between steps; a second Ctrl-C stops at once."""

    class Received(Exception):
        pass

    def __enter__(self) -> "StopSignals":
        self.received, self.held = None, False
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which nohup has set
            numbers.append(signal.SIGHUP)
        self.previous = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def _note(self, number: int, frame) -> None:
        if self.received == number == signal.SIGINT and not self.held:
            raise KeyboardInterrupt
        self.received = number

    def check(self) -> None:
        """Raises `StopSignals.Received` if there was one."""
        if self.received:
            raise self.Received

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """In this block even a second Ctrl-C is only noted."""
        self.held = True
        try:
            yield
        finally:
            self.held = False

    def __exit__(self, *exc) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
