"""What is in folders, and what patterns mean: 'photos/**/*.png'. Hidden folders, and those that no person means, are left out."""

import contextlib
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
    folder: AnyPath, unreadable: Callable[[OSError], None] | None = None, machines: Callable[[AnyPath], None] | None = None
) -> Iterator[tuple[AnyPath, list[str], list[str]]]:
    """As `os.walk`, links followed: yields each folder, the names of those in it, which can be taken out, and its files' names, sorted.

    A folder comes once, however many links lead there, and by its own name rather than by a link's. `unreadable` is called with the error
    of one that cannot be read, which is raised without. With `machines`, which is called with each folder that no person means, these and
    hidden ones are left out.
    """

    def wanted(root: AnyPath, name: str) -> bool:
        if machines and _MACHINES.fullmatch(name):
            machines(root / name)
            return False
        return not (machines and name.startswith("."))

    if not isinstance(folder, Path):
        with os_errors(folder) as gfile:
            for root, folders, names in gfile.walk(str(folder)):
                folders[:] = [name for name in (name.rstrip("/") for name in folders) if wanted(RemotePath(root), name)]
                yield RemotePath(root), folders, names
        return
    seen, left = set(), deque([folder])
    while left:
        root = left.popleft()
        if (one := storage.identity(root)) in seen:
            continue
        seen.add(one)
        try:
            entries = sorted(os.scandir(root), key=lambda entry: entry.name)
        except OSError as e:
            if unreadable is None:
                raise
            unreadable(e)
            continue
        folders = [entry.name for entry in entries if _is_folder(entry) and wanted(root, entry.name)]
        yield root, folders, [entry.name for entry in entries if not _is_folder(entry)]
        for name in folders:
            left.append(root / name) if os.path.islink(root / name) else left.appendleft(root / name)


def told_unreadable(error: OSError) -> str:
    """Names a folder that `walk` could not read, and says why."""
    return f"{error.filename}: a folder that cannot be read ({error.strerror})"


def _is_folder(entry: os.DirEntry) -> bool:
    with contextlib.suppress(OSError):  # a link to itself, or to what is out of reach
        return entry.is_dir()
    return False


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
    text: str, unreadable: Callable[[OSError], None] = lambda e: None, machines: Callable[[AnyPath], None] = lambda folder: None
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
    try:
        names = [file.name for file in folder.iterdir()] if is_pattern(part) and folder.is_dir() else []
    except OSError as e:
        unreadable(e)
        return
    found = [name for name in names if fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))]
    for file in map(folder.joinpath, found if is_pattern(part) else [part] if storage.lexists(folder / part) else []):
        if not rest:
            yield file
        elif is_pattern(part) and _MACHINES.fullmatch(file.name):
            machines(file)
        elif file.is_dir():
            yield from _glob(file, rest, unreadable, machines)
