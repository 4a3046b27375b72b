"""Progress of long work."""

import shutil
import sys
import time
from collections.abc import Callable


class Progress:
    """A live bar on a terminal, a plain line every so often elsewhere; on stderr either way."""

    LIVE_SECONDS, PLAIN_SECONDS = 0.2, 30.0

    def __init__(self, total: int, unit: str):
        self.total, self.unit, self.live = total, unit, sys.stderr.isatty()
        self.first, self.drawn = None, time.monotonic()
        self.rate = 0.0  # a second, since the first update: what came before it is start-up

    def update(self, done: int, describe: Callable[[], str] = str, force: bool = False) -> None:
        """Shows that `done` of `total` are done. `describe` is called only if something is drawn; `force` draws in any case."""
        now = time.monotonic()
        self.first = self.first or (done, now)
        if not force and now - self.drawn < (self.LIVE_SECONDS if self.live else self.PLAIN_SECONDS):
            return
        self.drawn = now
        self.rate = (done - self.first[0]) / max(now - self.first[1], 1e-9)
        left = f"{_duration((self.total - done) / self.rate)} left" if self.rate else ""
        line = "  ".join(filter(None, (f"{done}/{self.total} {self.unit}", describe(), left)))
        if self.live:
            bar = ("━" * (24 * done // max(self.total, 1))).ljust(24, "╌")
            line = "\r\033[K" + f"{bar} {line}"[: shutil.get_terminal_size().columns - 1]
        print(line, end="" if self.live else "\n", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Prints a line that stays, above the bar."""
        self.close()
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clears the bar, so that the next line starts on a clean one."""
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60}:{rest % 60:02d}"
