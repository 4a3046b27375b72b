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
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


def serve(work: Callable[[], float | None]) -> None:
    """The subject's side: `work` may return the seconds itself; otherwise the call is timed."""
    work()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        seconds = work()
        seconds = time.perf_counter() - began if seconds is None else seconds
        print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes()}), flush=True)


def peak_megabytes() -> float:
    """The largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage says begins with the size of the process that started this one
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass
class Measured:
    """Seconds of each turn, and the largest resident size of the process, MB."""

    seconds: list[float]
    megabytes: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratio(self, other: "Measured") -> tuple[float, float, float]:
        """Median, smallest and largest of this one's seconds over the other's of the same turn."""
        ratios = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)


def measure(subjects: dict[str, list[str]], turns: int) -> dict[str, Measured]:
    """`subjects`: name → arguments of `subjects.py`. One that cannot run here is left out, with its reason on stderr."""
    with contextlib.ExitStack() as stack:
        running, results = {}, {}
        for name, arguments in subjects.items():
            process = subprocess.Popen(
                [sys.executable, str(HERE / "subjects.py"), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if not os.environ.get("BENCHMARK_DEBUG") else None,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            if _answer(process) == "ready":
                running[name], results[name] = process, Measured([], 0)
            else:
                why = (process.stderr.read().strip().splitlines() or ["no reason given"])[-1] if process.stderr else "see above"
                print(f"left out: {name}: {why}", file=sys.stderr)
        for turn in range(turns):
            for name, process in list(running.items())[:: -1 if turn % 2 else 1]:
                process.stdin.write("go\n")
                process.stdin.flush()
                answer = json.loads(_answer(process))
                results[name].seconds.append(answer["seconds"])
                results[name].megabytes = answer["megabytes"]
        return results


def _answer(process: subprocess.Popen) -> str:
    """The next line of a subject that is "ready" or figures; libraries print lines of their own."""
    for line in process.stdout:
        if line.startswith(("ready", "{")):
            return line.strip()
    return ""
