"""Standard output and standard error: whoever reads them may go away, or their disk be full, and the work goes on."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_NOBODY_READS = (errno.EPIPE, errno.EIO, None)  # a pipe whose other end is closed, a terminal that is gone, a stream that was closed


class Stream:
    """A text stream that raises nothing when it cannot be written; `error` is the first reason."""

    def __init__(self, stream: TextIO):
        self.stream, self.error = stream, None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._noting():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._noting():
            self.stream.flush()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            self.error = self.error or e

    @property
    def lost(self) -> str | None:
        """Why something is not written that somebody waits for, in the system's words; None if nothing is lost."""
        return self.error.strerror if self.error and self.error.errno not in _NOBODY_READS else None

    def give_up(self) -> None:
        """Lets what is still unwritten go nowhere; Python would try once more at its exit, and complain."""
        self.flush()
        if self.error:
            with contextlib.suppress(OSError):  # the stream may not be a file
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)


@contextlib.contextmanager
def lasting() -> Iterator[Stream]:
    """In this block standard output, which is yielded, and standard error are such streams, also where a shell has closed them (>&-)."""
    for number in range(3):  # else the next file that is opened would get this number, and in it what libraries print
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
    before = sys.stdin, sys.stdout, sys.stderr
    with open(os.devnull, encoding="utf-8") as nothing:  # which cannot be written
        streams = [Stream(sys.stdout or nothing), Stream(sys.stderr or nothing)]
        sys.stdin, (sys.stdout, sys.stderr) = sys.stdin or nothing, streams
        try:
            yield streams[0]
        finally:
            for stream in streams:
                stream.give_up()
            sys.stdin, sys.stdout, sys.stderr = before


def write_bytes(data: bytes) -> None:
    """Writes what a command makes to standard output. Raises `OSError`, which names that."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as e:
        raise OSError(e.errno or errno.EBADF, e.strerror or "is closed", "standard output") from None
