"""A run's folder, `checkpoints/RUN`: how it is made, found and locked, and its history."""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from pictures import fingerprints
from system import storage
from system.cli import InputError
from system.storage import AnyPath
from training.config import Config

LOCK, DATA, HISTORY, EVALUATION = ".lock", "data.json", "history.jsonl", "evaluation.json"
TIME = "%Y-%m-%d %H:%M:%S"


def check_run_name(name: str, checkpoints_dir: AnyPath) -> None:
    """Raises `InputError` unless a run folder of that name can be made."""
    if name in ("", "..") or PurePath(name).name != name:
        raise InputError(f"--run_name {name!r}: a name, not a path; --checkpoints_dir says where")
    if (checkpoints_dir / name).exists():
        raise InputError(f"--run_name {name}: {checkpoints_dir / name} exists; continue it with --load_model {name}")


def new_run(checkpoints_dir: AnyPath, name: str | None, config: Config, data: dict[str, dict]) -> AnyPath:
    """Makes a run folder with its settings and the fingerprints of its data; it appears with both in it.

    It is called `name`, or the time as YYYYmmdd-HHMM, with -2 and so on if that minute has one. Raises `InputError`.
    """
    if name is not None:
        check_run_name(name, checkpoints_dir)
    stamp = time.strftime("%Y%m%d-%H%M")
    for name_or_time in [name] if name is not None else itertools.chain([stamp], (f"{stamp}-{n}" for n in itertools.count(2))):
        run = checkpoints_dir / name_or_time
        try:
            with storage.atomic_write(run) as folder:  # a rename, which fails where there is a folder with something in it
                folder.mkdir()
                config.save(folder)
                (folder / DATA).write_text(json.dumps(data, indent=2) + "\n")
            return run
        except OSError:
            if not run.exists():
                raise
    raise InputError(f"--run_name {name}: another process has just made it; name another")


def _meanings(name: str, checkpoints_dir: AnyPath) -> tuple[AnyPath, AnyPath]:
    """What a name that was typed can mean: a run in `checkpoints_dir`, or a path."""
    return checkpoints_dir / name, storage.path(name)


def find_run(name: str, checkpoints_dir: AnyPath) -> AnyPath:
    """Returns the run folder that `name` means: a path, or a name in `checkpoints_dir`. Raises `InputError`."""
    for run in _meanings(name, checkpoints_dir):
        if (run / "config.json").is_file():
            return run
    raise InputError(f"--load_model {name}: no such run in {checkpoints_dir} (a run folder holds config.json)")


def find_weights(name: str, checkpoints_dir: AnyPath) -> str:
    """Returns the checkpoint that `name` means: a run, whose newest it is, or a checkpoint, by path or in `checkpoints_dir`."""
    for path in _meanings(name, checkpoints_dir):
        if (path / "config.json").is_file() or index_of(path).is_file():
            return find_checkpoint("--init_from", path)
    raise InputError(f"--init_from {name}: no such run in {checkpoints_dir} (a run folder holds config.json), and no checkpoint")


def may_mean(name: str, checkpoint: str, checkpoints_dir: AnyPath) -> bool:
    """Tells whether `find_weights` may have found that checkpoint, which need not exist any more."""
    found = storage.path(checkpoint)
    return any(path in (found, found.parent) for path in _meanings(name, checkpoints_dir))


def continue_command(run: AnyPath) -> str:
    """The command that continues a run."""
    return f"python train.py --load_model{'=' if str(run).startswith('-') else ' '}{shlex.quote(str(run))}"


def index_of(checkpoint: str | AnyPath) -> AnyPath:
    """A checkpoint, with or without .index → the file that ends in that."""
    return storage.path(f"{str(checkpoint).removesuffix('.index')}.index")


def find_checkpoint(flag: str, path: AnyPath) -> str:
    """Returns the newest checkpoint of a run folder, or the checkpoint that `path` is. Raises `InputError` if the run has none yet."""
    if not path.is_dir():
        return str(path).removesuffix(".index")
    import tensorflow as tf

    state = tf.train.get_checkpoint_state(str(path))  # tf.train.latest_checkpoint takes [ and * in the path for a pattern
    if state is None or not index_of(state.model_checkpoint_path).is_file():
        raise InputError(f"{flag} {path}: no checkpoint in this run yet")
    return state.model_checkpoint_path


@contextlib.contextmanager
def locked(run: AnyPath) -> Iterator[None]:
    """Holds the run's lock. Raises `InputError`, which names the holder, if another process has it.

    The lock is the kernel's (flock): it ends with the process that holds it, however that ends, and needs no cleaning up.
    Remote storage has none: training goes on there, unguarded.
    """
    if not isinstance(run, Path):
        yield
        return
    with open(run / LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(f"{run}: {file.read() or 'another process'} is training there; stop it first, or start another run") from None
        except OSError as e:
            if e.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            # Some network file systems have none either.
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime(TIME)},")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # a command that is refused leaves the file as it was


def data_contradictions(run: AnyPath, *readers) -> list[str]:
    """Lists the readers whose files, or shares of them, are not those that the run was begun with. Raises `InputError`."""
    file = run / DATA
    try:
        begun = json.loads(file.read_text())
        problems = [(reader, fingerprints.contradiction(reader, begun[reader.name])) for reader in readers]
    except (ValueError, TypeError, KeyError, AttributeError, FileNotFoundError):
        raise InputError(f"{file}: missing or damaged; it says which data the run was begun with") from None
    return [f"--{reader.name} {reader.file}: {problem}" for reader, problem in problems if problem]


def evaluation(run: AnyPath) -> dict[str, dict]:
    """What was measured on test pictures: "last" and "best", each with its step, as far as they exist and can be read."""
    try:
        found = json.loads((run / EVALUATION).read_text())
        return {kind: numbers for kind, numbers in found.items() if isinstance(numbers["step"], int)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def note_evaluation(run: AnyPath, last: dict[str, Any], best: dict[str, Any] | None) -> None:
    """Writes what `evaluation` reads."""
    with storage.atomic_write(run / EVALUATION) as file:
        file.write_text(json.dumps({"last": last} | ({"best": best} if best else {}), indent=2) + "\n")


def record(run: AnyPath, event: str, step: int, **details: Any) -> None:
    """Adds a line to the run's history, `history.jsonl`."""
    entry = {"time": time.strftime(TIME), "event": event, "step": step, "process": os.getpid(), "host": socket.gethostname(), **details}
    storage.append(run / HISTORY, json.dumps(entry, ensure_ascii=False) + "\n")
