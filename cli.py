"""What all commands share: one-line errors and exit statuses, a quiet TensorFlow, progress, and output that appears whole or not at all."""

import argparse
import contextlib
import errno
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")

DONE, PARTIAL, WRONG_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143  # exit statuses
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # errors that are not the user's
_serial = itertools.count()


class InputError(ValueError):
    """The user's mistake. Its message is one line that names the flag or file, the value and the remedy."""


class Terminated(BaseException):
    """SIGTERM as an exception, so that temporary files are removed on the way out."""


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults that say something, and the module's paragraphs as they are."""

    def _get_help_string(self, action):
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)

    def _fill_text(self, text, width, indent):
        return text.strip()


class Parser(argparse.ArgumentParser):
    """An argparse parser that takes no abbreviations, shows defaults, and raises `InputError` instead of printing its usage."""

    def __init__(self, description: str):
        super().__init__(description=description, allow_abbrev=False, formatter_class=_HelpFormatter)

    def error(self, message: str):
        raise InputError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")


def number(kind: type, low: float, high: float = float("inf"), multiple: int = 1) -> Callable[[str], float]:
    """Returns an argparse type: an `int` or `float` from `low` to `high`, both included, that `multiple` divides."""

    def parse(text: str):
        value = kind(text)  # a ValueError here becomes argparse's "invalid int value"
        if not low <= value <= high:  # catches NaN as well
            limit = f"from {low} to {high}" if high < float("inf") else f"at least {low}"
            raise argparse.ArgumentTypeError(f"{text} is out of range: use {limit}")
        if value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a finite number")
        if multiple > 1 and value % multiple:
            below = value // multiple * multiple
            raise argparse.ArgumentTypeError(f"{text} is not a multiple of {multiple}: use {max(below, multiple)} or {below + multiple}")
        return value

    parse.__name__ = kind.__name__
    return parse


def run(main: Callable[[list[str] | None], int | None], argv: list[str] | None = None) -> int:
    """Runs a command's `main` and returns its exit status; what the user can mend is reported as one line on stderr."""
    prog = Path(sys.argv[0]).name

    def terminate(signum, frame):
        raise Terminated

    with contextlib.suppress(ValueError):  # signals can be set in the main thread only
        signal.signal(signal.SIGTERM, terminate)
    try:
        return main(argv) or DONE
    except InputError as e:
        status, message = WRONG_INPUT, str(e)
    except OSError as e:
        status, message = PARTIAL if e.errno in _STORAGE else WRONG_INPUT, f"{e.filename or 'output'}: {e.strerror or e}"
    except KeyboardInterrupt:
        status, message = INTERRUPTED, "interrupted"
    except Terminated:
        status, message = TERMINATED, "terminated"
    except Exception as e:  # TensorFlow's writers do not raise an OSError, but quote one
        reasons = [os.strerror(number) for number in _STORAGE if os.strerror(number) in str(e)]
        if not reasons or not type(e).__module__.startswith("tensorflow."):
            raise
        status, message = PARTIAL, f"output: {reasons[0]}"
    clear = "\r\033[K" if sys.stderr.isatty() else ""  # a bar may stand there
    print(f"{clear}{prog}: {' '.join(message.split())}", file=sys.stderr)
    return status


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Holds back what C++ code writes to stderr; gives it out after all when the block fails."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def quiet_tensorflow() -> None:
    """Imports TensorFlow and opens its devices without the start-up lines that no logging variable turns off."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _silent_stderr():
        import tensorflow as tf

        tf.config.list_logical_devices()


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; what was written there, a file or a folder, takes its name when the block succeeds."""
    path = Path(path)
    new_folders = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:50]}.tmp-{os.getpid()}-{next(_serial)}")  # 50 characters can be 200 bytes of the 255
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as e:
        if isinstance(e, OSError) and str(e.filename) == str(temporary):
            e.filename = path  # the one that the user knows
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)
        for folder in new_folders:  # innermost first
            with contextlib.suppress(OSError):  # another output may be in there
                folder.rmdir()
        raise


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Yields each item with the result of its work, done on threads ahead of time; only a few results are held at once."""
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        pending = deque()
        try:
            for item in items:
                pending.append((item, pool.submit(work, item)))
                if len(pending) > 4 * cores:
                    item, future = pending.popleft()
                    yield item, future.result()
            while pending:
                item, future = pending.popleft()
                yield item, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


class Progress:
    """A live bar on a terminal, a plain line every so often elsewhere; on stderr either way."""

    LIVE_SECONDS, PLAIN_SECONDS = 0.2, 30.0

    def __init__(self, total: int, unit: str):
        self.total, self.unit = total, unit
        self.live = sys.stderr.isatty()
        self.first = None
        self.rate = 0.0  # a second, since the first update: what came before it is start-up
        self.drawn = time.monotonic()

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
            filled = 24 * done // max(self.total, 1)
            line = f"{'━' * filled}{'╌' * (24 - filled)} {line}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clears the bar, so that the next line starts on a clean one."""
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60}:{rest % 60:02d}"
