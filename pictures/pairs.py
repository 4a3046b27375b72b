"""Pictures that belong together, by their names."""

import re
from collections import Counter
from collections.abc import Mapping

from pictures import images
from system import storage
from system.cli import InputError
from system.storage import AnyPath


def without_ending(name: str) -> str:
    """A picture's name without what tells only in which domain it is: _A, .B, _real_A, _fake_B and the like, as people name them."""
    return re.sub(r"(_real|_fake)?[_.][AB]$", "", name, flags=re.IGNORECASE)


def by_name(folder: AnyPath) -> dict[str, AnyPath]:
    """The pictures in a folder, by path without suffix, sorted. Raises `InputError` if two have one name, or there is none."""
    files: dict[str, AnyPath] = {}
    for file in images.find(folder):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise InputError(f"{file}: {files[name].name} has the same name; remove one of them")
        files[name] = file
    return files


def partners(names: Mapping[str, AnyPath], others: Mapping[str, AnyPath]) -> dict[str, AnyPath]:
    """For each of `names` that has one, the picture of `others` that belongs to it: of the same name, or of one with another ending.

    The latter only if there is no other that it could be.
    """
    ours, theirs = Counter(map(without_ending, names)), Counter(map(without_ending, others))
    by_short = {without_ending(name): file for name, file in others.items()}
    found = {name: others[name] for name in names if name in others}
    alone = (name for name in names if name not in others and ours[without_ending(name)] == theirs[without_ending(name)] == 1)
    return found | {name: by_short[without_ending(name)] for name in alone}


def of_folders(X: AnyPath, Y: AnyPath) -> dict[str, tuple[AnyPath, AnyPath]]:
    """The pairs of two folders, by the name in X without its ending, sorted. Raises `InputError`, which names it, if one is alone."""
    ours, theirs = by_name(X), by_name(Y)
    found = partners(ours, theirs)
    taken = set(found.values())
    lonely = {X: [name for name in ours if name not in found], Y: [name for name, file in theirs.items() if file not in taken]}
    for folder, other in ((X, Y), (Y, X)):
        if alone := lonely[folder]:
            more = f", nor have {len(alone) - 1} more" if len(alone) > 1 else ""
            raise InputError(
                f"{folder}: {storage.as_text(alone[0])} has no partner of its name in {other}{more}; take out what is in no pair"
            )
    return {without_ending(name): (ours[name], found[name]) for name in ours}
