"""Progress of long work, and what it will cost."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from system import storage
from system.storage import AnyPath


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


class Costs:
    """How long work will take, and how large its outputs will be: to be said while there is time to change one's mind."""

    FIRST, SECONDS = 20, 3.0  # items, and what they have to have taken, before anything is known
    LONG, LARGE = 60.0, 1e9  # seconds and bytes; of less nobody has to be told
    WORSE = 1.5  # times what was said: then it is said again

    def __init__(self, items: dict[AnyPath, int], unit: str):
        """`items`: how many there are for each output, in the order in which these are made."""
        self.items, self.unit, self.said = items, unit, (0.0, 0.0)

    def begin(self, output: AnyPath) -> None:
        """Starts counting for an output; those before it are done."""
        outputs = list(self.items)
        self.items = {other: self.items[other] for other in outputs[outputs.index(output) :]}
        self.began, self.done, self.size = time.monotonic(), 0, 0

    def after(self, size: int, remedy: str) -> str | None:
        """Counts an item of so many bytes. Returns a line to be printed, if one is due; it ends with `remedy`, where there is one."""
        self.done, self.size = self.done + 1, self.size + size
        seconds = time.monotonic() - self.began
        if self.done < self.FIRST or seconds < self.SECONDS:
            return None
        count = sum(self.items.values())
        seconds, size = (value * count / self.done for value in (seconds, self.size))
        long, large = (max(least, self.WORSE * said) for least, said in zip((self.LONG, self.LARGE), self.said, strict=True))
        free = _free({storage.resolve(file).parent for file in self.items if isinstance(file, Path)})
        full = size - self.size > free
        if seconds <= long and size <= large and not (full and self.WORSE * self.said[1] < size):
            return None
        self.said = seconds, size
        only = f", of which {_bytes(free)} are free," if full else ""
        names = " and ".join(map(str, self.items))
        costs = f"{names}: {count:,} {self.unit} will take about {_bytes(size)}{only} and {_in_words(seconds)}"
        return f"{costs}; {remedy}" if remedy else costs


def _free(folders: set[Path]) -> float:
    """Bytes that are free for files in local folders; without end if there is none."""
    devices = {os.stat(folder).st_dev: folder for folder in folders}
    return sum(shutil.disk_usage(folder).free for folder in devices.values()) if devices else float("inf")


def _bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size > 1e8 else f"{size / 1e6:.0f} MB"


def _in_words(seconds: float) -> str:
    hours, minutes = divmod(max(round(seconds / 60), 1), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60}:{rest % 60:02d}"
