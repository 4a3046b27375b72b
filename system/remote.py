"""Paths on any storage that TensorFlow knows, gs://bucket/… say, reached through `tf.io.gfile`."""

import contextlib
import errno
import functools
import importlib
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from types import ModuleType
from typing import BinaryIO

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
            with os_errors(self) as gfile:
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
        with os_errors(self) as gfile:
            return map(self.joinpath, gfile.listdir(str(self)))

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """Those in this very folder whose names match."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def stat(self) -> os.stat_result:
        """Its size and the time of its last change only."""
        with os_errors(self) as gfile:
            found = gfile.stat(str(self))
        return os.stat_result((0, 0, 0, 0, 0, 0, found.length, 0, found.mtime_nsec / 1e9, 0))

    @contextlib.contextmanager
    def open(self, mode: str = "rb") -> Iterator[BinaryIO]:
        with os_errors(self) as gfile, gfile.GFile(str(self), mode) as file:
            yield file

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes the folder, and always those above it."""
        if not exist_ok and self.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self))
        with os_errors(self) as gfile:
            gfile.makedirs(str(self))

    def read_bytes(self) -> bytes:
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes, mode: str = "wb") -> None:
        with self.open(mode) as file:
            file.write(data)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def unlink(self) -> None:
        with os_errors(self) as gfile:
            gfile.remove(str(self))

    def rmdir(self) -> None:
        """Does nothing: another process may be writing into the folder, and most storage knows no empty ones."""


@functools.cache
def _gfile() -> ModuleType:
    quiet_tensorflow(lambda: None)  # does not open the devices
    import tensorflow as tf

    return tf.io.gfile


@contextlib.contextmanager
def os_errors(place: RemotePath) -> Iterator[ModuleType]:
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
