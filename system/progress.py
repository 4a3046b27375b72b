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
        """Shows that `done` of `total` are done. `describe` is called only if something is drawn; `force` draws in any case.

        It returns parts that two spaces separate, the most important first: a narrow terminal shows those for which there is room.
        """
        now = time.monotonic()
        self.first = self.first or (done, now)
        if not force and now - self.drawn < (self.LIVE_SECONDS if self.live else self.PLAIN_SECONDS):
            return
        self.drawn = now
        self.rate = (done - self.first[0]) / max(now - self.first[1], 1e-9)
        left = f"{_duration((self.total - done) / self.rate)} left" if self.rate else ""
        line = "  ".join(filter(None, (f"{done}/{self.total} {self.unit}", left, describe())))
        if self.live:
            room = shutil.get_terminal_size().columns - 1
            width = min(24, room // 16)
            line = f"{'━' * (width * done // max(self.total, 1)):╌<{width}} {line}"
            if len(line) > room:  # the parts at the end are the least important, and half of one says something else
                line = line[: max(line.rfind("  ", 0, room + 1), 0)] or line[:room]
            line = f"\r\033[K{line}"
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
