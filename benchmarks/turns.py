"""Measures several programs in turn, in processes that stay alive, so that what slows the machine slows all of them alike.

A subject is a command that prints "ready" once it has warmed up, and then, for each line on its standard input, does its work once and
prints the seconds that took; `serve` is that loop. `measure` starts all subjects of a comparison, then takes them in turn: A B C C B A …
"""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

HERE = Path(__file__).parent
LONGEST = 120  # letters of a reason that are shown


def peak_megabytes() -> float:
    """The largest resident size of this process so far."""
    # What getrusage says begins with the size of the process that started this one.
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_megabytes() -> float:
    """What of this process is in memory now (Linux; 0 elsewhere)."""
    return _status("VmRSS")


def _status(name: str) -> float:
    file = Path("/proc/self/status")
    lines = file.read_text().splitlines() if file.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)


def timed(work: Callable[[], object]) -> float:
    """Does it; returns the seconds that took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def serve(
    work: Callable[[], object],
    imports: float = 0.0,
    megabytes: Callable[[], float] = peak_megabytes,
    clock: Callable[[Callable[[], object]], float] = timed,
) -> None:
    """The subject's side: it warms up, and then takes its turns. `imports`: the resident size before it made anything of its own, MB.

    `megabytes`: its largest resident size so far; `clock`: does the work and tells the seconds.
    """
    work()
    print("ready", flush=True)
    for _ in sys.stdin:
        seconds = clock(work)
        print(json.dumps({"seconds": seconds, "megabytes": megabytes(), "imports": imports}), flush=True)


@dataclass
class Measured:
    """Seconds of each turn; the largest resident size of the process, MB, and what of it was there after its imports (0: not told)."""

    seconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    imports: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def add(self, seconds: float, megabytes: float, imports: float) -> None:
        self.seconds.append(seconds)
        self.megabytes, self.imports = megabytes, imports

    def ratio(self, other: "Measured") -> tuple[float, float, float]:
        """Median, smallest and largest of this one's seconds over the other's of the same turn."""
        ratios = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)


def measure(subjects: dict[str, list[str]], turns: int) -> tuple[dict[str, Measured], dict[str, str]]:
    """`subjects`: name → arguments of `subjects.py`. Returns what was measured of each, and, of those that failed, why."""
    turn, measured, failed = {}, {}, {}
    with contextlib.ExitStack() as stack:
        for name, arguments in subjects.items():
            with _noting(failed, name):
                turn[name] = stack.enter_context(_running(arguments))
                measured[name] = Measured()
        for i in range(turns):
            for name in [name for name in measured if name not in failed][:: -1 if i % 2 else 1]:
                with _noting(failed, name):
                    measured[name].add(**turn[name]())
    return {name: found for name, found in measured.items() if name not in failed}, failed


class Failed(Exception):
    """A program came to its end too soon; says why."""


@contextlib.contextmanager
def _noting(failed: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except Failed as e:
        failed[name] = str(e)


@contextlib.contextmanager
def _running(arguments: list[str]) -> Iterator[Callable[[], dict[str, float]]]:
    """Starts a subject, and gives a function that has it do its work once. Raises `Failed`, as the function does, if it ends."""
    command = [sys.executable, str(HERE / "subjects.py"), *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with tempfile.TemporaryFile("w+", errors="replace") as said, subprocess.Popen(command, **pipes, stderr=said, text=True) as process:

        def answer() -> str:
            for line in process.stdout:
                if line.startswith(("ready", "{")):  # libraries print lines of their own
                    return line
            raise Failed(why(said, process.wait()))

        def turn() -> dict[str, float]:
            with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                os.write(process.stdin.fileno(), b"go\n")
            return json.loads(answer())

        try:
            answer()
            yield turn
        finally:
            process.kill()


def why(said: IO[str], status: int) -> str:
    """The last line of what a failed program said, short. All of it goes to stderr."""
    said.seek(0)
    text = said.read().rstrip()
    print(text, file=sys.stderr, flush=True)
    last = (text.splitlines() or [f"exit status {status}"])[-1].strip()
    return last if len(last) <= LONGEST else f"{last[:LONGEST]}…"
