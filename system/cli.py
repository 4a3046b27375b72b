"""What all commands share: one-line errors and exit statuses, a quiet TensorFlow, progress."""

import argparse
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")

DONE, PARTIAL, WRONG_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143  # exit statuses
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # errors that are not the user's


class InputError(ValueError):
    """The user's mistake. Its message is one line that names the flag or file, the value and the remedy."""


class Stopped(Exception):
    """The command stops by itself, its work done in part. The message is one line that says why and how to go on."""


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

    def _get_values(self, action, arg_strings):
        for text in arg_strings:
            problem = _unusable(text)
            if problem:
                raise argparse.ArgumentError(action, f"{text!r} {problem}")
        return super()._get_values(action, arg_strings)

    def error(self, message: str):
        raise InputError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")


def _unusable(text: str) -> str | None:
    """Says why no flag can have this value, whatever it means; None if one can."""
    if not text:  # an unset variable of a shell, mostly, which as a path would be the current folder
        return "is empty: give a value, or leave the flag out"
    if text == "--":  # --flag=--, of which argparse makes an empty list
        return "is no value: give one, or leave the flag out"
    if "\0" in text:
        return "has a NUL character in it: leave that out"
    try:
        text.encode()
    except UnicodeEncodeError:  # a disk can have such names, but TensorFlow cannot
        return "is not UTF-8: rename the file, or type it anew"
    return None


def number(kind: type, low: float, high: float = float("inf"), multiple: int = 1) -> Callable[[str], float]:
    """Returns an argparse type: an `int` or `float` from `low` to `high`, both included, that `multiple` divides."""
    if kind is int:
        high = min(high, 2**31 - 1)  # more overflows here and there in TensorFlow, Pillow and NumPy

    def parse(text: str):
        value = kind(text)  # a ValueError here becomes argparse's "invalid int value"
        if not low <= value <= high:  # catches NaN as well
            limit = f"at least {low}" if value < low or high == float("inf") else f"from {low} to {high}"
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

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # it need not be a file
            stream.reconfigure(errors="backslashreplace")  # a name that cannot be printed is no reason to fail
    with contextlib.suppress(ValueError):  # signals can be set in the main thread only
        signal.signal(signal.SIGTERM, terminate)
    try:
        return main(argv) or DONE
    except InputError as e:
        status, message = WRONG_INPUT, str(e)
    except Stopped as e:
        status, message = PARTIAL, str(e)
    except KeyboardInterrupt:
        status, message = INTERRUPTED, "interrupted"
    except Terminated:
        status, message = TERMINATED, "terminated"
    except Exception as e:
        reason = storage_error(e)
        if reason is not None:
            status = WRONG_INPUT if isinstance(e, OSError) and e.errno not in _STORAGE else PARTIAL
            message = f"{getattr(e, 'filename', None) or 'output'}: {reason}"
        elif isinstance(e, MemoryError) or type(e).__name__ == "ResourceExhaustedError":  # the latter is TensorFlow's
            status, message = PARTIAL, "out of memory: make the pictures, the batch or the networks smaller"
        else:
            raise
    clear = "\r\033[K" if sys.stderr.isatty() else ""  # a bar may stand there
    print(f"{clear}{prog}: {' '.join(message.split())}", file=sys.stderr)
    return status


def storage_error(error: Exception) -> str | None:
    """Says in the system's words what kept a file from being read or written; None if `error` is about something else."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if type(error).__module__.startswith("tensorflow."):  # TensorFlow's errors quote the system's
        reasons = (os.strerror(number) for number in (*_STORAGE, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ESTALE))
        return next((reason for reason in reasons if reason in str(error)), None)
    return None
