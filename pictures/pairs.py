"""Pictures that belong together, by their names."""

import contextlib
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from PIL.Image import Transpose

from pictures import images, metadata, opening
from system import storage, threads
from system.cli import InputError
from system.progress import Progress
from system.storage import AnyPath


def without_ending(name: str) -> str:
    """A picture's name without what tells only in which domain it is: _A, .B, _real_A, _fake_B and the like, as people name them."""
    return re.sub(r"(_real|_fake)?[_.][AB]$", "", name, flags=re.IGNORECASE)


def by_name(folder: AnyPath, unreadable: list[str] | None = None) -> dict[str, AnyPath]:
    """The pictures in a folder, by path without suffix, sorted. Raises `InputError` if two have one name, or there is none.

    An é is the same however it is written: macOS writes it as two characters. `unreadable`: see `images.find`.
    """
    files: dict[str, AnyPath] = {}
    for file in images.find(folder, unreadable=unreadable):
        name = unicodedata.normalize("NFC", file.relative_to(folder).with_suffix("").as_posix())
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


def of_folders(X: AnyPath, Y: AnyPath, unreadable: list[str] | None = None) -> dict[str, tuple[AnyPath, AnyPath]]:
    """The pairs of two folders, by the name in X, sorted. Raises `InputError`, which names it, if one is alone.

    `unreadable`: see `images.find`.
    """
    ours, theirs = by_name(X, unreadable), by_name(Y, unreadable)
    found = partners(ours, theirs)
    taken = set(found.values())
    lonely = {X: [name for name in ours if name not in found], Y: [name for name, file in theirs.items() if file not in taken]}
    for folder, other in ((X, Y), (Y, X)):
        if alone := lonely[folder]:
            more = f", nor have {len(alone) - 1} more" if len(alone) > 1 else ""
            raise InputError(
                f"{folder}: {storage.as_text(alone[0])} has no partner of its name in {other}{more}; take out what is in no pair"
            )
    return {name: (ours[name], found[name]) for name in ours}


def check(pairs: Sequence[tuple[AnyPath, ...]], folders: Sequence[AnyPath], settings: str, halves: bool) -> bytes:
    """Reads all pictures, each pair being two files or one, and returns what tells these pairs from others: a digest of names and contents.

    `settings`: what else makes them what they are. Raises `InputError` for pairs that differ in size, or cannot be cut into `halves`; what
    cannot be read is passed over.
    """
    digest, wrong = hashlib.sha256(settings.encode()), []
    with contextlib.closing(Progress(len(pairs), "pairs looked at")) as progress:
        for done, (files, seen) in enumerate(threads.in_order(lambda files: [_look(file) for file in files], pairs), 1):
            for file, folder, (content, _) in zip(files, folders, seen, strict=True):
                digest.update(b"%s\0%s" % (storage.as_text(file.relative_to(folder)).encode(), content))
            sizes = [size for _, size in seen if size]
            shown = [f"{width}×{height}" for width, height in sizes]
            if halves and sizes and sizes[0][0] % 2:
                wrong.append(f"{files[0]}: is {shown[0]}, and has no two halves of one width; mend it, or take it out")
            if len(set(sizes)) > 1:
                wrong.append(f"{files[0]}: is {shown[0]}, and its partner {files[1]} is {shown[1]}; make them equal, or take both out")
            progress.update(done)
    if wrong:
        raise InputError(wrong[0] + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""))
    return digest.digest()


def _look(file: AnyPath) -> tuple[bytes, tuple[int, int] | None]:
    """A digest of a picture's file, and its width and height once it is upright; none if it cannot be read."""
    try:
        data = images.content(file)
        picture = opening.header(data)
        sideways = metadata.turn(picture) in (Transpose.ROTATE_90, Transpose.ROTATE_270, Transpose.TRANSPOSE, Transpose.TRANSVERSE)
        return hashlib.sha256(data).digest(), picture.size[::-1] if sideways else picture.size
    except (images.PictureError, OSError):
        return b"", None
