"""Files and folders, on this machine or on any storage that TensorFlow knows (gs://bucket/…), and atomic writes.

A path of this machine is a `pathlib.Path`, with all that its file system can do: atomic renames, locks, links.
Remote storage is reached through `tf.io.gfile`. There a file is renamed at once, too, but a folder file by file.
"""

import argparse
import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from system import cli, leftovers
from system.cli import InputError
from system.remote import RemotePath, os_errors

AnyPath = Path | RemotePath


def path(text: str | os.PathLike) -> AnyPath:
    """A typed path → a `RemotePath` if it is scheme://…, else a `Path`; file:///… is one of this machine, with %20 for a space."""
    text = os.fspath(text)
    if found := re.match("file:(//(localhost)?)?(?=/)", text, re.IGNORECASE):
        return Path(unquote(text[found.end() :]))
    return RemotePath(text) if "://" in text else Path(text).expanduser() if text.startswith("~/") else Path(text)


def file_path(text: str) -> AnyPath:
    """As `path`, of what is to be a file: an argparse type."""
    if text.endswith("/"):
        raise argparse.ArgumentTypeError(f"{text} ends in a slash, as folders do: name a file")
    return path(text)


def size(file: AnyPath) -> int:
    """Bytes."""
    return file.stat().st_size


def lexists(path: AnyPath) -> bool:
    """Tells whether there is a file, a folder or a link of this name, even a broken link."""
    return os.path.lexists(path) if isinstance(path, Path) else path.exists()


def resolve(path: AnyPath) -> AnyPath:
    """The absolute path, links followed."""
    return Path(os.path.realpath(path)) if isinstance(path, Path) else path


def behind(path: AnyPath) -> AnyPath:
    """Where goes what is written to `path`: links stay, and what they lead to is replaced. Raises `InputError` if its folder is missing."""
    if not os.path.islink(path):
        return path
    found = resolve(path)
    if not found.parent.is_dir():
        raise InputError(f"{path}: is a link to {found}, and there is no folder {found.parent}; make that, or remove the link")
    return found


def replace(source: AnyPath, target: AnyPath) -> None:
    """Renames a file, replacing one of that name, or a folder. Of a remote folder the top files move last: readers look for those."""
    if isinstance(source, Path):
        os.replace(source, target)
        return
    with os_errors(target) as gfile:
        if not gfile.isdir(str(source)):
            gfile.rename(str(source), str(target), overwrite=True)
            return
        target.mkdir()  # raises `FileExistsError`
        files = [RemotePath(root) / name for root, _, names in gfile.walk(str(source)) for name in names]
        for file in sorted(files, key=lambda file: (len(file.parts), file), reverse=True):
            moved = target / file.relative_to(source).as_posix()
            gfile.makedirs(str(moved.parent))
            gfile.rename(str(file), str(moved), overwrite=True)
        gfile.rmtree(str(source))


def remove(path: AnyPath) -> None:
    """Removes a file, a link, or a folder with all in it."""
    if not path.is_dir() or os.path.islink(path):
        path.unlink()
    elif isinstance(path, Path):
        shutil.rmtree(path)
    else:
        with os_errors(path) as gfile:
            gfile.rmtree(str(path))


def check_reachable(file: AnyPath) -> None:
    """Raises `OSError` if a file cannot be opened: no permission, or the connection is lost."""
    if isinstance(file, Path):
        file.open("rb").close()
    else:
        file.read_bytes()


def is_special(path: AnyPath) -> bool:
    """Tells whether this is a pipe, a device or a socket: who opens one can wait for ever, and who reads one never come to an end."""
    return isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir())


def check_regular(file: AnyPath) -> None:
    """Raises `OSError` for what is no file but a pipe, a device or a socket."""
    if is_special(file):
        raise OSError(errno.EINVAL, "is a pipe or a device; save it as a file first", str(file))


def read(file: AnyPath) -> bytes:
    """A file's content. Raises `OSError`, at once for a pipe, a device or a socket."""
    check_regular(file)
    return file.read_bytes()


def as_text(name: str | AnyPath) -> str:
    """A name for people: on a disk it need not be UTF-8, and where that is not the system's encoding it comes in pieces."""
    return str(name).encode(errors="surrogateescape").decode(errors="replace")


def identity(path: AnyPath) -> object:
    """What is equal for two names of the same file, whatever links lead there, and in whatever case they are typed."""
    with contextlib.suppress(OSError):  # there is nothing yet
        if isinstance(path, Path):
            status = path.stat()
            return status.st_dev, status.st_ino
    return resolve(path)


def append(file: AnyPath, text: str) -> None:
    """Appends to a text file in UTF-8, which is created if it is missing."""
    if isinstance(file, Path):
        with open(file, "a", encoding="utf-8") as stream:
            stream.write(text)
    else:
        file.write_bytes(text.encode(), "ab")


def check_place(path: AnyPath) -> None:
    """Raises `InputError` if one of the folders that `path` would be in is not a folder, or nothing can be written there."""
    above = _check_folders(behind(path))
    if isinstance(above, Path) and not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{path}: nothing can be written in {above}; name another place, or get the right to write there")


def _check_folders(path: AnyPath) -> AnyPath | None:
    """Returns the innermost folder that exists of those that `path` would be in. Raises `InputError` if that is no folder."""
    above = next((folder for folder in path.parents if lexists(folder)), None)
    for part in path.relative_to(above).parts if above and isinstance(path, Path) else ():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (above / part).lstat()  # raises `OSError` if a name is too long, also of what is to be in a new folder
    if above and not above.is_dir():
        raise InputError(f"{path}: {above} is no folder; name another place")
    return above


def check_output(flag: str, file: AnyPath, overwrite: bool) -> None:
    """Raises `InputError` unless a file can be written there, or replaced if `overwrite`."""
    if file.is_dir():
        raise InputError(f"{flag} {file}: is a folder; name a file")
    if is_special(file):  # a rename would put a file in its place
        raise InputError(f"{flag} {file}: is a pipe or a device; name a file")
    if lexists(file) and not overwrite:
        raise InputError(f"{flag} {file}: exists; --overwrite replaces it")
    check_place(file)


def check_apart(flag: str, path: AnyPath, other_flag: str, other: AnyPath) -> None:
    """Raises `InputError` if two outputs are the same, or one is inside the other."""
    here, there = resolve(path), resolve(other)
    if here == there or here in there.parents or there in here.parents:
        relation = "the same file as" if here == there else "inside" if there in here.parents else "a folder above"
        raise InputError(f"{flag} {path}: {relation} {other_flag} {other}; name another")


@contextlib.contextmanager
def atomic_write(path: AnyPath) -> Iterator[AnyPath]:
    """Yields a temporary path beside `path`; the file or folder written there is renamed to `path` if the block succeeds, else removed.

    A file that is replaced keeps its mode, and a link stays, see `behind`.
    """
    place = behind(path)
    _check_folders(place)
    new_folders = [folder for folder in place.parents if not folder.exists()]
    if isinstance(place, Path):
        leftovers.remove(place.parent.absolute())  # of processes that were killed
    temporary = place.with_name(leftovers.prefix(place.name) + secrets.token_hex(4))
    try:
        for folder in reversed(new_folders):
            folder.mkdir(exist_ok=True)
        _check_folders(temporary)  # before TensorFlow's writers, whose errors read differently, find its path too long
        yield temporary
        if isinstance(place, Path) and place.is_file():
            with contextlib.suppress(OSError):  # not every file system knows modes
                temporary.chmod(place.stat().st_mode & 0o777)
        replace(temporary, place)
    except BaseException as e:
        if isinstance(e, OSError) and (e.filename is None or str(e.filename).startswith(str(temporary))):
            e.filename = path  # the name that the user knows
        elif cli.storage_error(e) is not None and str(temporary) in str(e):  # TensorFlow's have the name in their words only
            e.filename = path
        with contextlib.suppress(OSError):  # nothing may have been written
            remove(temporary)
        for folder in new_folders:  # innermost first
            with contextlib.suppress(OSError):  # it may not be empty
                folder.rmdir()
        raise
