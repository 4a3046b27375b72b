"""Files and folders, on this machine or on any storage that TensorFlow knows (gs://bucket/…), and atomic writes.

A path of this machine is a `pathlib.Path`, with all that its file system can do: atomic renames, locks, links.
Remote storage is reached through `tf.io.gfile`. There a file is renamed at once, too, but a folder file by file.
"""

import contextlib
import errno
import functools
import glob as local_glob
import importlib
import os
import secrets
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from types import ModuleType

from system.cli import InputError
from system.devices import quiet_tensorflow


class RemotePath(PurePosixPath):
    """The part of `pathlib.Path` that the project needs, for scheme://bucket/name. Errors are `OSError`s, as with `Path`."""

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)  # pathlib drops the second slash

    @property
    def parents(self) -> tuple["RemotePath", ...]:
        return tuple(super().parents)[:-2]  # without scheme: and the current folder

    def _is_folder(self) -> bool | None:
        """None if there is nothing. One request; `gfile.isdir` would return False on an error."""
        try:
            with _os_errors(self) as gfile:
                return gfile.stat(str(self)).is_directory
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        return self._is_folder() is not None

    def is_dir(self) -> bool:
        return self._is_folder() is True

    def is_file(self) -> bool:
        return self._is_folder() is False

    def iterdir(self) -> Iterator["RemotePath"]:
        with _os_errors(self) as gfile:
            return map(self.joinpath, gfile.listdir(str(self)))

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """Those in this very folder whose names match."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes the folder, and always those above it."""
        if not exist_ok and self.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self))
        with _os_errors(self) as gfile:
            gfile.makedirs(str(self))

    def read_bytes(self) -> bytes:
        with _os_errors(self) as gfile, gfile.GFile(str(self), "rb") as file:
            return file.read()

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def write_bytes(self, data: bytes, mode: str = "wb") -> None:
        with _os_errors(self) as gfile, gfile.GFile(str(self), mode) as file:
            file.write(data)

    def write_text(self, text: str) -> None:
        self.write_bytes(text.encode())

    def unlink(self) -> None:
        with _os_errors(self) as gfile:
            gfile.remove(str(self))

    def rmdir(self) -> None:
        """Does nothing: another process may be writing into the folder, and most storage knows no empty ones."""


AnyPath = Path | RemotePath


def path(text: str | os.PathLike) -> AnyPath:
    """A typed path → a `RemotePath` if it is scheme://…, else a `Path`."""
    text = os.fspath(text)
    return RemotePath(text) if "://" in text else Path(text)


@functools.cache
def _gfile() -> ModuleType:
    quiet_tensorflow(lambda: None)  # does not open the devices
    import tensorflow as tf

    return tf.io.gfile


@contextlib.contextmanager
def _os_errors(place: RemotePath) -> Iterator[ModuleType]:
    """Yields `tf.io.gfile`; turns TensorFlow's errors into `OSError`s. Raises `InputError` if there is no such storage."""
    gfile = _gfile()
    if str(place).partition("://")[0] not in gfile.get_registered_schemes():
        try:
            importlib.import_module("tensorflow_io")  # adds its own
        except ImportError:
            known = ", ".join(f"{scheme}://" for scheme in sorted(filter(None, gfile.get_registered_schemes())))
            raise InputError(f"{place}: TensorFlow knows {known}; for this install tensorflow-io, or use another place") from None
    from tensorflow import errors

    kinds = {errors.NotFoundError: errno.ENOENT, errors.AlreadyExistsError: errno.EEXIST}
    kinds |= {errors.PermissionDeniedError: errno.EACCES, errors.UnauthenticatedError: errno.EACCES}
    try:
        yield gfile
    except errors.OpError as e:
        number = kinds.get(type(e))
        words = os.strerror(number) if number else (str(e).splitlines() or [type(e).__name__])[0]
        raise OSError(number or errno.EIO, words, str(place)) from None


def walk(folder: AnyPath) -> Iterator[tuple[AnyPath, list[str], list[str]]]:
    """As `os.walk`, links followed, though never in circles: yields each folder, the names of those in it, and its files' names."""
    if isinstance(folder, Path):
        for root, folders, names in os.walk(folder, followlinks=True):
            above = Path(root).resolve()
            folders[:] = [f for f in folders if not above.is_relative_to(Path(root, f).resolve())]
            yield Path(root), folders, names
    else:
        with _os_errors(folder) as gfile:
            for root, folders, names in gfile.walk(str(folder)):
                folders[:] = [name.rstrip("/") for name in folders]
                yield RemotePath(root), folders, names


def glob(pattern: str) -> list[str]:
    """The files and folders whose names match; * and ? stand for no slash."""
    if "://" not in pattern:
        return local_glob.glob(pattern)
    with _os_errors(path(pattern)) as gfile:
        return gfile.glob(pattern)


def size(file: AnyPath) -> int:
    """Bytes."""
    if isinstance(file, Path):
        return file.stat().st_size
    with _os_errors(file) as gfile:
        return gfile.stat(str(file)).length


def lexists(path: AnyPath) -> bool:
    """Tells whether there is a file, a folder or a link of this name, even a broken link."""
    return os.path.lexists(path) if isinstance(path, Path) else path.exists()


def resolve(path: AnyPath) -> AnyPath:
    """The absolute path, links followed."""
    return Path(os.path.realpath(path)) if isinstance(path, Path) else path


def replace(source: AnyPath, target: AnyPath) -> None:
    """Renames a file, replacing one of that name, or a folder. Of a remote folder the top files move last: readers look for those."""
    if isinstance(source, Path):
        os.replace(source, target)
        return
    with _os_errors(target) as gfile:
        if not gfile.isdir(str(source)):
            gfile.rename(str(source), str(target), overwrite=True)
            return
        target.mkdir()  # raises `FileExistsError`
        files = [root / name for root, _, names in walk(source) for name in names]
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
        with _os_errors(path) as gfile:
            gfile.rmtree(str(path))


def check_reachable(file: AnyPath) -> None:
    """Raises `OSError` if a file cannot be opened: no permission, or the connection is lost."""
    if isinstance(file, Path):
        file.open("rb").close()
    else:
        file.read_bytes()


def append(file: AnyPath, text: str) -> None:
    """Appends to a text file, which is created if it is missing."""
    if isinstance(file, Path):
        with open(file, "a") as stream:
            stream.write(text)
    else:
        file.write_bytes(text.encode(), "ab")


def check_place(path: AnyPath) -> None:
    """Raises `InputError` if one of the folders that `path` would be in is not a folder."""
    if isinstance(path, Path):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()  # raises `OSError` if a name is too long
    above = next((folder for folder in path.parents if lexists(folder)), None)
    if above and not above.is_dir():
        raise InputError(f"{path}: {above} is no folder; name another place")


def check_output(flag: str, file: AnyPath, overwrite: bool) -> None:
    """Raises `InputError` unless a file can be written there, or replaced if `overwrite`."""
    if file.is_dir():
        raise InputError(f"{flag} {file}: is a folder; name a file")
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
    """Yields a temporary path beside `path`; the file or folder written there is renamed to `path` if the block succeeds, else removed."""
    check_place(path)
    new_folders = [folder for folder in path.parents if not folder.exists()]
    # Random, as processes of several machines can have equal numbers. 50 characters of the name can be 200 bytes of at most 255.
    temporary = path.with_name(f".{path.name[:50]}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        for folder in reversed(new_folders):
            folder.mkdir(exist_ok=True)
        check_place(temporary)  # before TensorFlow's writers, whose errors read differently, find its path too long
        yield temporary
        replace(temporary, path)
    except BaseException as e:
        if isinstance(e, OSError) and (e.filename is None or str(e.filename).startswith(str(temporary))):
            e.filename = path  # the name that the user knows
        with contextlib.suppress(OSError):  # nothing may have been written
            remove(temporary)
        for folder in new_folders:  # innermost first
            with contextlib.suppress(OSError):  # it may not be empty
                folder.rmdir()
        raise
