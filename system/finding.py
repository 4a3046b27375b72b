"""What is in folders, and what patterns mean: 'photos/**/*.png'. Hidden folders, and those that no person means, are left out."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from system import storage
from system.remote import RemotePath, os_errors
from system.storage import AnyPath

# Folders that systems, storage devices and programs keep for themselves: thumbnails, what was deleted, what was rescued.
_MACHINES = re.compile(
    r"@eadir|@syno\w+|@sharebin|@__thumb|@recycle|@recently-snapshot|@tmp|#recycle|#snapshot|\$recycle\.bin|recycle[rd]|found\.\d{3}"
    r"|system volume information|network trash folder|temporary items|lost\+found|__macosx|.+\.(photoslibrary|lrdata|lrlibrary)",
    re.IGNORECASE,
)


def walk(
    folder: AnyPath, unreadable: Callable[[OSError], None] = lambda error: None, machines: Callable[[AnyPath], None] | None = None
) -> Iterator[tuple[AnyPath, list[str], list[str]]]:
    """As `os.walk`, links followed: yields each folder, the names of those in it, which can be taken out, and its files' names.

    A folder comes once, however many links lead there, and by its own name rather than by a link's. `unreadable` is called with the error
    of one that cannot be read. With `machines`, which is called with each folder that no person means, these and hidden ones are left out.
    """

    def is_wanted(root: AnyPath, name: str) -> bool:
        is_machines = machines and _MACHINES.fullmatch(name)
        if is_machines:
            machines(root / name)
        return not (is_machines or machines and name.startswith("."))

    if not isinstance(folder, Path):
        with os_errors(folder) as gfile:
            for root, folders, names in gfile.walk(str(folder)):
                root, folders[:] = RemotePath(root), [name.rstrip("/") for name in folders]
                folders[:] = [name for name in folders if is_wanted(root, name)]
                yield root, folders, names
        return
    seen, left = set(), deque([folder])
    while left:
        root = left.popleft()
        if (one := storage.identity(root)) in seen:
            continue
        seen.add(one)
        try:
            found = sorted(os.scandir(root), key=lambda entry: entry.name)
            links = {entry.name for entry in found if entry.is_symlink()}
            entries = {entry.name: os.path.isdir(entry) if entry.name in links else entry.is_dir() for entry in found}
        except OSError as e:
            unreadable(e)
            continue
        folders = [name for name, is_folder in entries.items() if is_folder and is_wanted(root, name)]
        yield root, folders, [name for name, is_folder in entries.items() if not is_folder]
        for name in folders:
            left.append(root / name) if name in links else left.appendleft(root / name)


def told_unreadable(error: OSError) -> str:
    """Names a folder that `walk` could not read, and says why."""
    return f"{error.filename}: a folder that cannot be read ({error.strerror})"


def is_pattern(text: str) -> bool:
    """Tells whether a name that was typed can stand for several; it need not, as names can have these characters, too."""
    return bool(re.search(r"[*?[]", text))


def pattern_parts(text: str) -> tuple[AnyPath, str]:
    """A pattern → the folder that is named before it begins, and the rest. What is there by its name is no pattern: "[2024] trip/*.png"."""
    whole = storage.path(text)
    for number, part in enumerate(whole.parts):
        above = type(whole)(*whole.parts[:number])
        if is_pattern(part) and not storage.lexists(above / part):
            return above, "/".join(whole.parts[number:])
    return whole, ""


def glob(
    text: str, unreadable: Callable[[OSError], None] = lambda error: None, machines: Callable[[AnyPath], None] = lambda folder: None
) -> list[str]:
    """The files and folders whose names match, sorted; * and ? stand for no slash and no dot at the start, ** for any folders, see `walk`.

    Nor do * and ? stand for folders that no person means. Where nothing matches, brackets may be part of the names.
    """
    folder, pattern = pattern_parts(text)
    for meant in dict.fromkeys((pattern, pattern.replace("[", "[[]"))):
        if found := sorted({str(file) for file in _glob(folder, meant.split("/"), unreadable, machines)}):
            return found
    return []


def _glob(folder: AnyPath, parts: list[str], unreadable: Callable, machines: Callable) -> Iterator[AnyPath]:
    part, *rest = parts
    if part == "**":
        for root, _, _ in walk(folder, unreadable, machines) if folder.is_dir() else ():
            yield from _glob(root, rest or ["*"], unreadable, machines)
        return
    found = [part] if storage.lexists(folder / part) else []
    if is_pattern(part) and folder.is_dir():
        try:
            matching = [file.name for file in folder.iterdir() if fnmatchcase(file.name, part)]
            found = [name for name in matching if part.startswith(".") or not name.startswith(".")]
        except OSError as e:
            unreadable(e)
    for name in found:
        if rest and is_pattern(part) and _MACHINES.fullmatch(name):
            machines(folder / name)
        elif not rest:
            yield folder / name
        elif (folder / name).is_dir():
            yield from _glob(folder / name, rest, unreadable, machines)
