"""Signals that ask a run to stop."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator


class StopSignals:
    """Turns the first Ctrl-C, SIGTERM or hang-up into a note that the loop reads between steps; a second Ctrl-C stops at once.

    `words`: what is said on stderr as soon as one comes.
    """

    class Received(Exception):
        pass

    def __init__(self, words: str | None = None):
        self.words = words

    def __enter__(self) -> "StopSignals":
        self.received, self.held = None, False
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which nohup has set
            numbers.append(signal.SIGHUP)
        self.previous = {number: signal.signal(number, self._note) for number in numbers}
        # Python calls `_note` only between two of its own instructions: after the step that TensorFlow is computing. This pipe is at once.
        listening, self.pipe = os.pipe()
        os.set_blocking(self.pipe, False)
        self.pipe_before = signal.set_wakeup_fd(self.pipe, warn_on_full_buffer=False)
        self.speaker = threading.Thread(target=self._speak, args=[listening], daemon=True)
        self.speaker.start()
        return self

    def _speak(self, listening: int) -> None:
        words = self.words
        with open(listening, "rb", buffering=0) as pipe:
            while number := pipe.read(1):
                if words and number[0] in self.previous:
                    clear = "\r\033[K" if sys.stderr.isatty() else ""  # there may be a progress bar
                    again = "; Ctrl-C again does not wait, and saves nothing" if number[0] == signal.SIGINT else ""
                    print(f"{clear}{words}{again}", file=sys.stderr, flush=True)
                    words = None

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
        signal.set_wakeup_fd(self.pipe_before)
        os.close(self.pipe)
        self.speaker.join()
