"""A run's folder, `checkpoints/RUN`: how it is made, found and locked, and its history."""

import contextlib
import errno
import fcntl
import itertools
import json
import math
import os
import shlex
import socket
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from pictures import fingerprints, shards
from system import cli, json_files, patterns, storage
from system.cli import InputError
from system.json_files import shown
from system.storage import AnyPath
from training.config import Config

LOCK, DATA, HISTORY, EVALUATION = ".lock", "data.json", "history.jsonl", "evaluation.json"
PROJECT, EXPORTS = Path(__file__).parents[1], Path("pretrained")  # models land in the latter, of wherever one stands
SHIPPED = ("apple2orange.pb", "orange2apple.pb")
MODEL_FLAGS = ("--XtoY_model", "--YtoX_model")
TIME = "%Y-%m-%d %H:%M:%S"


def check_run_name(name: str, checkpoints_dir: AnyPath) -> None:
    """Raises `InputError` unless a run folder of that name can be made."""
    if name in ("", "..") or PurePath(name).name != name:
        raise InputError(f"--run_name {name!r}: a name, not a path; --checkpoints_dir says where")
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in name):
        raise InputError(f"--run_name {name!r}: has a control character or a line break in it; leave that out")
    if (checkpoints_dir / name).exists():
        raise InputError(f"--run_name {name}: {checkpoints_dir / name} exists; continue it with --load_model {name}")


def new_run(checkpoints_dir: AnyPath, name: str | None, config: Config, data: dict[str, dict]) -> AnyPath:
    """Makes a run folder with its settings and the fingerprints of its data; it appears with both in it.

    It is called `name`, or the time as YYYYmmdd-HHMM, with -2 and so on if that minute has one. Raises `InputError`.
    """
    if name is not None:
        check_run_name(name, checkpoints_dir)
    patterns.check(checkpoints_dir / (name or ""))
    stamp = time.strftime("%Y%m%d-%H%M")
    for name_or_time in [name] if name is not None else itertools.chain([stamp], (f"{stamp}-{n}" for n in itertools.count(2))):
        run = checkpoints_dir / name_or_time
        try:
            with storage.atomic_write(run) as folder:  # a rename, which fails where there is a folder with something in it
                folder.mkdir()
                config.save(folder)
                (folder / DATA).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
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


def find_weights(name: str, checkpoints_dir: AnyPath) -> AnyPath:
    """Returns the run folder or the checkpoint that `name` means, by path or in `checkpoints_dir`. Raises `InputError`."""
    for path in _meanings(name, checkpoints_dir):
        if (path / "config.json").is_file() or index_of(path).is_file():
            return path
    raise InputError(f"--init_from {name}: no such run in {checkpoints_dir} (a run folder holds config.json), and no checkpoint")


def may_mean(name: str, checkpoint: str, checkpoints_dir: AnyPath) -> bool:
    """Tells whether `find_weights` may have found that checkpoint, which need not exist any more."""
    found = storage.path(checkpoint)
    return any(path in (found, found.parent) for path in _meanings(name, checkpoints_dir))


def continue_command(run: AnyPath) -> str:
    """The command that continues a run."""
    return f"python train.py {_flag('--load_model', run)}"


def export_command(run: AnyPath, config: Config) -> str:
    """The command that exports a run. It types names for models where those that are meant without would be of models that ship."""
    names = shards.model_names(config.X, config.Y)[: 1 if config.paired else 2]
    flags = [f"{flag} my_{name}.pb" for flag, name in zip(MODEL_FLAGS, names, strict=False) if ships(EXPORTS / f"{name}.pb")]
    return " ".join([f"python export_graph.py {_flag('--checkpoint_dir', run)}", *flags])


def ships(model: AnyPath) -> bool:
    """Tells whether this is where the project has a model that came with it."""
    return model.name in SHIPPED and storage.lexists(model) and storage.resolve(model.parent) == storage.resolve(PROJECT / EXPORTS)


def _flag(flag: str, path: AnyPath) -> str:
    """A flag and its value as a shell takes them."""
    return f"{flag}{'=' if str(path).startswith('-') else ' '}{quoted(path)}"


def quoted(path: AnyPath) -> str:
    """A path as a shell takes it, but for control characters, which a terminal would obey: they are escaped."""
    return cli.printable(shlex.quote(str(path)))


def index_of(checkpoint: str | AnyPath) -> AnyPath:
    """A checkpoint, with or without .index → the file that ends in that."""
    return storage.path(f"{str(checkpoint).removesuffix('.index')}.index")


@contextlib.contextmanager
def locked(run: AnyPath) -> Iterator[None]:
    """Holds the run's lock. Raises `InputError`, which names the holder, if another process has it.

    The lock is the kernel's (flock): it ends with the process that holds it, however that ends, and needs no cleaning up.
    Remote storage has none: training goes on there, unguarded.
    """
    if not isinstance(run, Path):
        yield
        return
    if storage.is_special(run / LOCK):
        raise InputError(f"{run / LOCK}: is a pipe or a device; remove it, and the run makes a file of that name")
    with open(run / LOCK, "a+", encoding="utf-8", errors="replace") as file:
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
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime(TIME)},".encode())
        try:
            yield
        finally:
            file.truncate(0)  # a command that is refused leaves the file as it was


def data_contradictions(run: AnyPath, *readers) -> list[str]:
    """Lists the readers whose files, or shares of them, are not those that the run was begun with. Raises `InputError`."""
    try:
        begun = json_files.read(run / DATA)
        for name in (reader.name for reader in readers):
            if not fingerprints.is_one(begun.get(name)):
                raise InputError(f"{run / DATA}: {name} {shown(begun.get(name))} tells no data; bring a copy back")
    except InputError as e:
        raise InputError(f"{e}, or begin a new run with this one's networks: --init_from {quoted(run)}") from None
    problems = [(reader, fingerprints.contradiction(reader, begun[reader.name])) for reader in readers]
    return [f"--{reader.name} {reader.file}: {problem}" for reader, problem in problems if problem]


def evaluation(run: AnyPath) -> dict[str, dict]:
    """What was measured on test pictures: "last" and "best", each with its step, as far as they exist and can be read."""
    try:
        found = json_files.read(run / EVALUATION)
    except (OSError, InputError):  # no reason to stop: it is measured again
        return {}
    return {kind: found[kind] for kind in ("last", "best") if _has_numbers(found.get(kind))}


def _has_numbers(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and type(found.get("step")) is int
        and all(type(value) in (int, float) and abs(value) < math.inf for value in found.values())
    )


def note_evaluation(run: AnyPath, last: dict[str, Any], best: dict[str, Any] | None) -> None:
    """Writes what `evaluation` reads; numbers that are not finite, as the PSNR of equal pictures, are left out."""
    found = {"last": last} | ({"best": best} if best else {})
    finite = {kind: {name: value for name, value in numbers.items() if abs(value) < math.inf} for kind, numbers in found.items()}
    with storage.atomic_write(run / EVALUATION) as file:
        file.write_text(json.dumps(finite, indent=2) + "\n", encoding="utf-8")


def history(run: AnyPath) -> list[dict]:
    """The lines of the run's history, as far as there are any and they can be read."""
    try:
        lines = storage.read(run / HISTORY).splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, RecursionError):  # a crash can leave half a line
            entries.append({"event": "", "step": 0} | json.loads(line))
    return entries


def check_checkpoints(run: AnyPath) -> None:
    """Raises `InputError` if a run has saved a checkpoint once, and none is there any more."""
    if any(run.glob("*.index")):
        return
    # Those events come after a save, or go on from one; a loss that is not finite is not saved.
    ends = [e for e in history(run) if e["event"] in ("continued", "stopped", "finished") and "not finite" not in str(e.get("why"))]
    steps = [entry["step"] for entry in ends if isinstance(entry["step"], int) and entry["step"] > 0]
    if steps or (run / "checkpoint").is_file():  # TensorFlow's list of them
        of = f", the last one of step {steps[-1]}" if steps else ""
        remedy = f"put them back, or begin anew with another --run_name (its settings are in {run / 'config.json'})"
        raise InputError(f"{run}: its checkpoints are gone{of}; {remedy}")


def record(run: AnyPath, event: str, step: int, **details: Any) -> None:
    """Adds a line to the run's history, `history.jsonl`."""
    entry = {"time": time.strftime(TIME), "event": event, "step": step, "process": os.getpid(), "host": socket.gethostname(), **details}
    before = b""
    with contextlib.suppress(FileNotFoundError):
        before = storage.read(run / HISTORY)
    half = before and not before.endswith(b"\n")  # a line, which a crash has left
    storage.append(run / HISTORY, ("\n" if half else "") + json.dumps(entry, ensure_ascii=False) + "\n")
