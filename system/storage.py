"""Files and folders, on this machine or on any storage that TensorFlow knows (gs://bucket/…); output that appears whole or not at all.

A path of this machine is a `pathlib.Path`, with all that its file system can do: renames that nothing can come between, locks, links.
Remote storage is asked through `tf.io.gfile`. A file appears there whole, too, but a folder file by file.
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
    """The part of `pathlib.Path` that the project needs, for scheme://bucket/name. Errors are `OSError`s, as `Path`'s are."""

    __slots__ = ()

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)  # pathlib takes the second slash for one too many

    @property
    def parents(self) -> tuple["RemotePath", ...]:
        return tuple(super().parents)[:-2]  # without scheme: and the current folder

    def _is_folder(self) -> bool | None:
        """None if there is nothing. One question to the storage; `gfile.isdir` would take an error for a no."""
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

    def is_symlink(self) -> bool:
        return False

    def iterdir(self) -> Iterator["RemotePath"]:
        with _os_errors(self) as gfile:
            names = gfile.listdir(str(self))
        return (self / name for name in names)

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """Those in this very folder whose names match."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes the folder, and those above it in any case: storage that has no folders misses none."""
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
        """Leaves the folder where it is: somebody may be writing into it, and most storage has no folders but those with files in them."""


AnyPath = Path | RemotePath


def path(text: str | os.PathLike) -> AnyPath:
    """What was typed → a path: a `RemotePath` for scheme://…"""
    text = os.fspath(text)
    return RemotePath(text) if "://" in text else Path(text)


@functools.cache
def _gfile() -> ModuleType:
    quiet_tensorflow(lambda: None)  # whose devices are left to those who need them
    import tensorflow as tf

    return tf.io.gfile


@contextlib.contextmanager
def _os_errors(place: RemotePath) -> Iterator[ModuleType]:
    """Yields `tf.io.gfile`, and turns TensorFlow's errors into the system's. Raises `InputError` if there is no such storage."""
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
        number = next((number for kind, number in kinds.items() if isinstance(e, kind)), None)
        raise OSError(number or errno.EIO, os.strerror(number) if number else _first_line(e), str(place)) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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
    place = path(pattern)
    if isinstance(place, Path):
        return local_glob.glob(pattern)
    with _os_errors(place) as gfile:
        return gfile.glob(pattern)


def size(file: AnyPath) -> int:
    """Bytes."""
    if isinstance(file, Path):
        return file.stat().st_size
    with _os_errors(file) as gfile:
        return gfile.stat(str(file)).length


def stands(path: AnyPath) -> bool:
    """Tells whether something has this name, be it a link that leads nowhere."""
    return os.path.lexists(path) if isinstance(path, Path) else path.exists()


def real(path: AnyPath) -> AnyPath:
    """The path from the root on, links followed."""
    return Path(os.path.realpath(path)) if isinstance(path, Path) else path


def replace(source: AnyPath, target: AnyPath) -> None:
    """Renames a file, over one that is there, or a folder. A remote folder's own files move last: by those its readers know it."""
    if isinstance(source, Path):
        os.replace(source, target)
        return
    with _os_errors(target) as gfile:
        if not gfile.isdir(str(source)):
            gfile.rename(str(source), str(target), overwrite=True)
            return
        if gfile.exists(str(target)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        files = [root / name for root, _, names in walk(source) for name in names]
        for file in sorted(files, key=lambda file: (len(file.parts), file), reverse=True):
            moved = target / file.relative_to(source).as_posix()
            gfile.makedirs(str(moved.parent))
            gfile.rename(str(file), str(moved), overwrite=True)
        gfile.rmtree(str(source))


def remove(path: AnyPath) -> None:
    """Removes a file, a link, or a folder with all in it."""
    if not path.is_dir() or path.is_symlink():
        path.unlink()
    elif isinstance(path, Path):
        shutil.rmtree(path)
    else:
        with _os_errors(path) as gfile:
            gfile.rmtree(str(path))


def check_reachable(file: AnyPath) -> None:
    """Raises `OSError` if a file cannot be read whatever is in it: it is locked away, or the connection is lost."""
    if isinstance(file, Path):
        file.open("rb").close()
    else:
        file.read_bytes()


def append(file: AnyPath, text: str) -> None:
    """Adds to the end of a text file, or begins one."""
    if isinstance(file, Path):
        with open(file, "a") as stream:
            stream.write(text)
    else:
        file.write_bytes(text.encode(), "ab")


def check_place(path: AnyPath) -> None:
    """Raises `InputError` if something that is no folder stands where `path` would need one."""
    if isinstance(path, Path):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()  # raises `OSError` if a name is too long
    above = next((folder for folder in path.parents if stands(folder)), None)
    if above and not above.is_dir():
        raise InputError(f"{path}: {above} is no folder; name another place")


def check_output(flag: str, file: AnyPath, overwrite: bool) -> None:
    """Raises `InputError` unless a file can be written there, or replaced if `overwrite`."""
    if file.is_dir():
        raise InputError(f"{flag} {file}: is a folder; name a file")
    if stands(file) and not overwrite:
        raise InputError(f"{flag} {file}: exists; --overwrite replaces it")
    check_place(file)


def check_apart(flag: str, path: AnyPath, other_flag: str, other: AnyPath) -> None:
    """Raises `InputError` if two outputs are one, or one lies in the other."""
    here, there = real(path), real(other)
    if here == there or here in there.parents or there in here.parents:
        relation = "the same file as" if here == there else "inside" if there in here.parents else "a folder above"
        raise InputError(f"{flag} {path}: {relation} {other_flag} {other}; name another")


@contextlib.contextmanager
def whole(path: AnyPath) -> Iterator[AnyPath]:
    """Yields a temporary path beside `path`; what was written there, a file or a folder, takes its name when the block succeeds."""
    check_place(path)
    new_folders = [folder for folder in path.parents if not folder.exists()]
    # At random, as processes on several machines can have one number. 50 characters of the name can be 200 bytes of the 255.
    temporary = path.with_name(f".{path.name[:50]}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        for folder in reversed(new_folders):
            folder.mkdir(exist_ok=True)
        check_place(temporary)  # TensorFlow's writers would say in their own way that its path is too long
        yield temporary
        replace(temporary, path)
    except BaseException as e:
        if isinstance(e, OSError) and (e.filename is None or str(e.filename).startswith(str(temporary))):
            e.filename = path  # the one that the user knows
        with contextlib.suppress(OSError):  # there may be none
            remove(temporary)
        for folder in new_folders:  # innermost first
            with contextlib.suppress(OSError):  # another output may be in there
                folder.rmdir()
        raise
