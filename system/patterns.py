"""Folders whose names TensorFlow's readers of models and checkpoints would take for patterns, `[try 2]` say."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from system.cli import InputError
from system.storage import AnyPath

CHARACTERS = "[]*?\\"  # what patterns are made of


def check(folder: AnyPath) -> None:
    """Raises `InputError` for a folder on remote storage in which TensorFlow could not read models or checkpoints."""
    if not isinstance(folder, Path) and set(str(folder)) & set(CHARACTERS):
        raise InputError(f"{folder}: TensorFlow takes {' '.join(CHARACTERS)} in the names of remote folders for patterns; use another name")


@contextlib.contextmanager
def plain(folder: AnyPath) -> Iterator[AnyPath]:
    """Yields a name of a folder that TensorFlow's readers of models and checkpoints take as it is: they look for files by patterns.

    Patterns have no characters that stand for themselves there: where the folder has some in its name, a link leads to it meanwhile.
    """
    check(folder)
    if not set(str(folder)) & set(CHARACTERS):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        link = Path(place, "folder")
        link.symlink_to(folder.absolute())
        yield link
