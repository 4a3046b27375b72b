"""What a second run leaves as it is: pictures that it would make again as they are. What made them they say themselves."""

import os
import time

from PIL import Image

from formats.translation import PIPE, Job
from pictures import metadata, opening
from system.storage import AnyPath

DAY = 24 * 60 * 60  # seconds; a time further ahead than that is a wrong clock's, and tells nothing
_OFFSETS, _SIZES = 0x0111, 0x0117  # the tags of a TIFF that say where its strips are


def remaining(jobs: list[Job], notes: list[str]) -> tuple[list[Job], list[AnyPath]]:
    """The jobs to do, those that were done otherwise with the reason as their `anew`; and outputs that stay without telling what made them.

    `notes`: what each of a job's outputs would say of that, as `Translation.notes`.
    """
    left, silent = [], []
    for job in jobs:
        if any(file is PIPE for file in job.outputs):
            left.append(job)
            continue
        try:
            outputs, source = [file.stat() for file in job.outputs], None if job.source is PIPE else job.source.stat()
        except OSError:  # an output is missing; or the input is, which is told where it is read
            job.anew = "half of a pair" if any(file.exists() for file in job.outputs) else ""
            left.append(job)
            continue
        said = [metadata.note_of(file) for file in job.outputs]
        job.anew = _anew(job, outputs, source, said, notes)
        if job.anew:
            left.append(job)
        else:
            silent += [file for file, note in zip(job.outputs, said, strict=True) if not note.startswith("cyclegan ")][:1]
    return left, silent


def _anew(job: Job, outputs: list[os.stat_result], source: os.stat_result | None, said: list[str], notes: list[str]) -> str:
    """Why the outputs of a job, which are there, are made anew; "" if they are not."""
    if not all(output.st_size for output in outputs):
        return "empty"
    if source and 0 < min(output.st_mtime for output in outputs) < source.st_mtime < time.time() + DAY:  # 0: not every storage knows
        return "older than the input"
    for file, note, wanted in zip(job.outputs, said, map(_parts, notes), strict=True):
        if not note.startswith("cyclegan "):
            continue
        if _is_cut_off(file):
            return "cut off"
        found = _parts(note)
        length = found.pop("source", None)
        if source and length != str(source.st_size):
            return "of another input"
        if any(found.get(key) != wanted.get(key) for key in ("model", "back")):
            return "by another model"
        if found != wanted:
            return "with other settings"
    return ""


def _parts(note: str) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in note.split())}


def _is_cut_off(file: AnyPath) -> bool:
    """Tells whether the end of a picture is missing, as after a copy that was broken off. None of its pixels are decoded."""
    with file.open("rb") as stream:
        head, length = stream.read(8), stream.seek(0, os.SEEK_END) or stream.tell()
        stream.seek(max(0, length - 1024))  # there are programs that append something
        tail = stream.read()
        if head.startswith(opening.WEBP):
            return int.from_bytes(head[4:], "little") + 8 > length
        if head.startswith((opening.PNG, opening.JPEG)):
            return (b"IEND" if head.startswith(opening.PNG) else b"\xff\xd9") not in tail
        tags = Image.open(stream, formats=("TIFF",)).tag_v2
        return any(at + size > length for at, size in zip(tags.get(_OFFSETS, ()), tags.get(_SIZES, ()), strict=False))
