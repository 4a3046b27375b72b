"""What all commands share: flags, one-line errors and exit statuses."""

import argparse
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DONE, PARTIAL, WRONG_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143  # exit statuses
MAX_INT = 2**31 - 1  # more overflows here and there in TensorFlow, Pillow and NumPy
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

    def add_argument(self, *names, **options):
        if isinstance(options.get("type"), Number):
            options.setdefault("metavar", "N" if options["type"].kind is int else "VALUE")
        return super().add_argument(*names, **options)

    def _get_values(self, action, arg_strings):
        for text in arg_strings:
            if problem := _unusable(text):
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


@dataclass(frozen=True)  # argparse needs a hashable type
class Number:
    """An argparse type: an `int` or `float` from `low` to `high`, both included, that `multiple` divides."""

    kind: type
    low: float
    high: float = float("inf")
    multiple: int = 1

    def __call__(self, text: str) -> float:
        """Parses what was typed. Raises `argparse.ArgumentTypeError`."""
        try:
            value = self.kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"invalid {self.kind.__name__} value: {text!r}") from None
        if problem := self.problem(value):
            raise argparse.ArgumentTypeError(f"{text} {problem}")
        return value

    def problem(self, value: float) -> str | None:
        """Says what is wrong with a value; None if nothing is."""
        high = min(self.high, MAX_INT) if self.kind is int else self.high
        if not self.low <= value <= high:  # catches NaN as well
            limit = f"at least {self.low}" if value < self.low or high == float("inf") else f"from {self.low} to {high}"
            return f"is out of range: use {limit}"
        if value > sys.float_info.max:  # infinity, or an integer that no float can be
            return "is not a finite number"
        if self.multiple > 1 and value % self.multiple:
            below = value // self.multiple * self.multiple
            return f"is not a multiple of {self.multiple}: use {below} or {below + self.multiple}"
        return None


class BooleanFlag(argparse.Action):
    """`--name` and, as in the chapter, `--noname`."""

    def __init__(self, option_strings, dest, **kwargs):
        super().__init__([*option_strings, *(f"--no{o.removeprefix('--')}" for o in option_strings)], dest, nargs=0, **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, not option_string.startswith("--no"))


def run(main: Callable[[list[str] | None], int | None], argv: list[str] | None = None) -> int:
    """Runs a command's `main` and returns its exit status; what the user can mend is reported as one line on stderr."""

    def terminate(signum, frame):
        raise Terminated

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # the stream may not be a file
            stream.reconfigure(errors="backslashreplace")  # for file names that cannot be printed
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
        if (reason := storage_error(e)) is not None:
            status = WRONG_INPUT if isinstance(e, OSError) and e.errno not in _STORAGE else PARTIAL
            message = f"{getattr(e, 'filename', None) or 'output'}: {reason}"
        elif isinstance(e, MemoryError) or type(e).__name__ == "ResourceExhaustedError":  # the latter is TensorFlow's
            status, message = PARTIAL, "out of memory: make the pictures, the batch or the networks smaller"
        else:
            raise
    clear = "\r\033[K" if sys.stderr.isatty() else ""  # there may be a progress bar
    print(f"{clear}{Path(sys.argv[0]).name}: {' '.join(message.split())}", file=sys.stderr)
    return status


def storage_error(error: Exception) -> str | None:
    """Says in the system's words what kept a file from being read or written; None if `error` is about something else."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if type(error).__module__.startswith("tensorflow."):  # TensorFlow's errors quote the system's
        reasons = (os.strerror(number) for number in (*_STORAGE, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ESTALE))
        return next((reason for reason in reasons if reason in str(error)), None)
    return None
