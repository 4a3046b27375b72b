"""What decoders print on standard error about a picture: it is caught, so that it can be said with the name of the file."""

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

_one_listens = threading.Lock()  # a process has one standard error


@contextlib.contextmanager
def to(words: re.Pattern[bytes], noise: re.Pattern[bytes] | None = None) -> Iterator[list[str]]:
    """Yields a list that, after the block, holds the last group in each line printed in it that begins with `words`.

    Lines that begin with `noise` are dropped; all others are of other threads, and go where they would have gone.
    """
    heard: list[str] = []
    with _one_listens, tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield heard
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            for line in file.read().splitlines(keepends=True):
                if found := words.match(line):
                    heard.append(found[found.lastindex].decode(errors="replace").strip())
                elif not (noise and noise.match(line)):
                    os.write(2, line)
