"""A data set in several TFRecord files: what its shards are called, and how they are found.

The shards of `data/x.tfrecords` are `data/x-00000-of-00004.tfrecords` and so on. What is typed to read them is a file, a pattern
(`data/x-*.tfrecords`) or `data/x.tfrecords@4`.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from system import finding, storage
from system.cli import InputError
from system.storage import AnyPath

Files = str | AnyPath | Sequence[str | AnyPath]

_SHARD = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})(\.[^./]*)?", re.DOTALL)
_SPEC = re.compile(r"(.+)@([0-9]+)", re.DOTALL)
MAX_SHARDS = 99_999  # five digits


def names(file: str | AnyPath, count: int) -> list[str]:
    """The names of the `count` shards of a data set called `file`; of one: `file` itself."""
    if count == 1:
        return [str(file)]
    start, suffix = os.path.splitext(file)
    return [f"{start}-{number:05}-of-{count:05}{suffix}" for number in range(count)]


def parse(name: str) -> tuple[str, int] | None:
    """A shard's name → the name of its data set, and the number of shards; None for any other name."""
    found = _SHARD.fullmatch(name)
    if not found or int(found[2]) >= int(found[3]):
        return None
    return found[1] + (found[4] or ""), int(found[3])


def leftovers(file: AnyPath, count: int) -> list[AnyPath]:
    """Returns the files there of the same data set in another number of shards than `count`, which a pattern would find too."""
    own = names(file.name, count)
    there = sorted(other.name for other in file.parent.iterdir()) if file.parent.is_dir() else []
    return [file.with_name(name) for name in there if name not in own and (parse(name) or (name,))[0] == file.name]


def find(data: Files) -> list[str]:
    """Returns the files that `data` names: a file, a pattern (sorted by name), `FILE@N`, or a list of these.

    A name that exists is that file; a single file need not exist. Raises `InputError` if a shard is missing or a file is named twice.
    """
    files = _find(str(data)) if isinstance(data, str | AnyPath) else [file for one in data for file in find(one)]
    if not files:
        raise InputError("no TFRecord file is named; make one with build_data.py")
    if twice := [file for file, n in Counter(map(os.path.realpath, files)).items() if n > 1]:
        raise InputError(f"{describe(data)}: means {twice[0]} more than once; name each file once")
    return files


def _find(data: str) -> list[str]:
    if data.lower().startswith(("file:/", "~/")):  # which open() does not know
        data = str(storage.path(data))
    if storage.path(data).is_file():
        return [data]
    if _SPEC.fullmatch(data):
        return share(data)
    if finding.is_pattern(data):
        files = [file for file in finding.glob(data) if storage.path(file).is_file()]
        if not files:
            raise InputError(f"{data}: no file is called like that; make one with build_data.py")
        _check_complete(data, files)
        return files
    return [data]


def share(data: str, worker: int = 0, workers: int = 1) -> list[str]:
    """Returns this worker's shards of `FILE@N`: every `workers`-th from its own on, others need not exist. Raises `InputError`."""
    spec, remedy = _SPEC.fullmatch(data), "make them with build_data.py --num_shards"
    if not spec:
        raise InputError(f"{data}: --shard_data divides shards among workers, which FILE@N names; {remedy}")
    if len(spec[2]) > 5 or not 1 <= int(spec[2]) <= MAX_SHARDS:
        raise InputError(f"{data}: FILE@N is for 1 to {MAX_SHARDS} shards; give their number after the @")
    files = names(spec[1], int(spec[2]))
    if len(files) < workers:
        raise InputError(f"{data}: too few shards for {workers} workers; {remedy} {workers}")
    own = files[worker::workers]
    if missing := next((file for file in own if not storage.path(file).is_file()), None):
        raise InputError(f"{data}: {missing} is missing; bring it back, or make all anew with build_data.py --num_shards {len(files)}")
    return own


def _check_complete(pattern: str, files: list[str]) -> None:
    """Raises `InputError` if shards of a data set are missing among the files, or it is there in two numbers of shards."""
    counts: dict[str, int] = {}
    for file in files:
        name, count = parse(file) or (file, 1)
        if counts.setdefault(name, count) != count:
            low, high = sorted((counts[name], count))
            raise InputError(f"{pattern}: finds {name} in {low} and in {high} shards; remove those that are old, or give {name}@N")
    for name, count in counts.items():
        if count > 1 and (missing := sorted(set(names(name, count)) - set(files))):
            found = f"{count - len(missing)} of {count} shards"
            raise InputError(f"{pattern}: finds {found}, not {missing[0]}; bring it back, or give a pattern that finds all")


def describe(data: Files) -> str:
    """The data's name in messages: as typed."""
    if isinstance(data, str | AnyPath):
        return str(data)
    return f"{data[0]} and {len(data) - 1} more" if len(data) > 1 else "".join(map(str, data))


def domain(data: str) -> str:
    """The name of a domain by its files: "apple" for data/apple.tfrecords, data/apple-*.tfrecords and the like."""
    spec = _SPEC.fullmatch(data)
    name = Path(spec[1] if spec else data).stem
    return re.split(r"-[0-9?*]+-of-|-?[*?[]", name)[0] or name


def model_names(X: str, Y: str) -> tuple[str, str]:
    """The names of the models X → Y and Y → X by the files of both: apple2orange, orange2apple. They need no quotes in a shell."""
    x, y = (re.sub(r"[^\w.-]", "_", domain(data)).encode()[:100].decode(errors="ignore") for data in (X, Y))  # of at most 255 bytes in all
    if x == y:
        x, y = f"{x}_A", f"{y}_B"
    return f"{x}2{y}", f"{y}2{x}"


def domains(name: str) -> tuple[str, str] | None:
    """The two domains of a data set or model of that name, horse2zebra → horse, zebra; None if it does not say."""
    found = re.fullmatch("(.+?)2(.+)", name, re.DOTALL)
    return (found[1], found[2]) if found else None
