"""What all commands share: flags, one-line errors and exit statuses."""

import argparse
import contextlib
import errno
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from system import console

DONE, PARTIAL, WRONG_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143  # exit statuses
MAX_INT = 2**31 - 1  # more overflows here and there in TensorFlow, Pillow and NumPy
_USERS = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR)  # errors that are the user's, whoever raises them
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

    def parse_known_args(self, args=None, namespace=None):
        self.typed = sys.argv[1:] if args is None else list(args)
        found, left = super().parse_known_args(args, namespace)
        if left and not any(text.startswith("-") for text in left) and (problem := self._left_over(left)):
            self.error(problem)
        return found, left

    def add_argument(self, *names, **options):
        if isinstance(options.get("type"), Number):
            options.setdefault("metavar", "N" if options["type"].kind is int else "VALUE")
        return super().add_argument(*names, **options)

    def _get_values(self, action, arg_strings):
        for text in arg_strings:
            if problem := unusable(text):
                raise argparse.ArgumentError(action, f"{text!r} {problem}")
        return super()._get_values(action, arg_strings)

    def error(self, message: str):
        message = message.removeprefix("argument ")
        flag, _, problem = message.partition(": ")
        if problem in ("expected one argument", "expected at least one argument") and (value := self._like_a_flag(flag)):
            message = f"{flag}: {value!r} looks like a flag; as a value it is typed {shlex.quote(f'{flag}={value}')}"
        raise InputError(f"{message} (see {self.prog} --help)")

    def _left_over(self, values: list[str]) -> str | None:
        """Says how a flag came to have more values than it takes: the shell has put them in the place of a pattern, or parted a name."""
        before = self.typed[: self.typed.index(values[0])]
        names = [text.partition("=")[0] for text in reversed(before)]
        flag = next((name for name in names if name in self._option_string_actions), None)
        more = f" and {len(values) - 1} more" if len(values) > 1 else ""
        if flag is None:
            return None
        if self._option_string_actions[flag].nargs == 0:
            return f"{flag}: takes no value, and {values[0]!r}{more} comes after it; leave that out"
        return f"{flag}: takes one value; {values[0]!r}{more} left over: a pattern, or a name with spaces, is typed in quotes, '*.png'"

    def _like_a_flag(self, flag: str) -> str | None:
        """What was typed after `flag` if it begins with a dash and is no flag."""
        following = [value for name, value in zip(self.typed, self.typed[1:], strict=False) if name == flag]
        return next((v for v in following if v.startswith("-") and v.partition("=")[0] not in self._option_string_actions), None)


def unusable(text: str) -> str | None:
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
    """Runs a command's `main` and returns its exit status; what the user can mend is reported as one line on stderr.

    Nothing ends because it cannot be printed. Who is done but could not print it all, on a full disk say, has done it in part.
    """

    def terminate(signum, frame):
        raise Terminated

    with console.lasting() as output:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError):  # the stream may not be a file
                stream.reconfigure(errors="backslashreplace")  # for file names that cannot be printed
        with contextlib.suppress(ValueError):  # signals can be set in the main thread only
            signal.signal(signal.SIGTERM, terminate)
        status, message = _outcome(main, argv)
        output.flush()
        if status == DONE and output.lost:
            status, message = PARTIAL, f"standard output: {output.lost}"
        if message is not None:
            clear = "\r\033[K" if sys.stderr.isatty() else ""  # there may be a progress bar
            print(f"{clear}{Path(sys.argv[0]).name}: {on_one_line(message)}", file=sys.stderr)
    return status


def on_one_line(text: str) -> str:
    """A text without line breaks, and without the control characters that a file's name can hold, which a terminal would obey."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """A text with its control characters, line breaks among them, as Python types them: \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _outcome(main: Callable[[list[str] | None], int | None], argv: list[str] | None) -> tuple[int, str | None]:
    """Runs `main`. Returns the exit status, and what is to be reported."""
    try:
        return main(argv) or DONE, None
    except InputError as e:
        return WRONG_INPUT, str(e)
    except Stopped as e:
        return PARTIAL, str(e)
    except KeyboardInterrupt:
        return INTERRUPTED, "interrupted"
    except Terminated:
        return TERMINATED, "terminated"
    except Exception as e:
        if (reason := storage_error(e)) is not None:
            ours = e.errno in (*_STORAGE, errno.EPIPE) if isinstance(e, OSError) else reason not in map(os.strerror, _USERS)
            named = re.search(rf"(\S+); {re.escape(reason)}", str(e))  # by TensorFlow
            name = getattr(e, "filename", None) or (named[1] if named else "output")
            if reason.startswith("No usable temporary directory"):  # Python's words, with no name
                return WRONG_INPUT, f"TMPDIR: there is no folder for temporary files that can be written; name one ({reason})"
            return PARTIAL if ours else WRONG_INPUT, f"{name}: {reason}"
        if isinstance(e, MemoryError) or type(e).__name__ == "ResourceExhaustedError":  # the latter is TensorFlow's
            return PARTIAL, "out of memory: make the pictures, the batch or the networks smaller"
        raise


def storage_error(error: BaseException) -> str | None:
    """Says in the system's words what kept a file from being read or written; None if `error` is about something else."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if type(error).__module__.startswith("tensorflow."):  # TensorFlow's errors quote the system's
        reasons = (os.strerror(number) for number in (*_STORAGE, *_USERS, errno.ESTALE))
        return next((reason for reason in reasons if reason in str(error)), None)
    return None
