"""Temporary names that tell which process writes, so that what a killed one leaves behind can be told, and removed by the next one."""

import contextlib
import functools
import os
import re
import shutil
import socket
from pathlib import Path


def prefix(name: str) -> str:
    """How the temporary name of what is later called `name` begins; eight random letters, digits or underscores are to follow."""
    start = name.encode(errors="ignore")[:100].decode(errors="ignore")  # a name has 255 bytes at most, and that of a host 64
    return f".{start}.tmp-{_processes()}-{os.getpid()}-"


@functools.cache  # once for each folder: the outputs of a command can be many
def remove(folder: Path) -> None:
    """Removes what processes of this machine that are gone (kill -9, say) have left in a folder of this machine."""
    pattern = re.compile(rf"\..*\.tmp-{re.escape(_processes())}-([0-9]{{1,7}})-[0-9a-z_]{{8}}", re.DOTALL)
    for left in folder.glob(".*.tmp-*"):
        found = pattern.fullmatch(left.name)
        if found and not _is_running(int(found[1])):
            with contextlib.suppress(OSError):  # another process may be removing it as well
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


@functools.cache
def _processes() -> str:
    """Names this machine and, on Linux, its space of process numbers: containers can share the name, each with numbers of its own."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()}-{os.stat('/proc/self/ns/pid').st_ino}"
    return socket.gethostname()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks, and sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
