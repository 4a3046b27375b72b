"""The checksum of a model: what is damaged is noticed before it makes a wrong picture.

A folder has it in SHA256SUMS, which `sha256sum --check` reads as well. A file has it in its metadata, where zeros are while it is computed.
"""

import hashlib
import re
from pathlib import Path

from system import graphs, storage
from system.cli import InputError
from system.storage import AnyPath

SUMS = "SHA256SUMS"
FIELD = {"sha256": "0" * 64}  # of the metadata, until `seal` fills it in
_FIELD, _LINE = re.compile(rb'(?<="sha256": ")[0-9a-f]{64}(?=")'), re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")
_REMEDY = "fetch it again, or export it anew"


def seal(model: AnyPath) -> None:
    """Adds the checksum to a model that has just been written: a folder, or a file whose metadata hold `FIELD`."""
    if model.is_dir():
        lines = (f"{_of_file(file)}  {name}\n" for name, file in sorted(graphs.files(model).items()) if name != SUMS)
        (model / SUMS).write_text("".join(lines), encoding="utf-8")
        return
    data = model.read_bytes()
    found = _FIELD.search(data)
    model.write_bytes(data[: found.start()] + _digest(data, found).encode() + data[found.end() :])


def verify(model: AnyPath, data: bytes | None) -> None:
    """Raises `InputError` unless a model is as it was sealed; `data`: what a file holds. One without a checksum passes."""
    if data is not None:
        found = _FIELD.search(data)
        if found and found[0].decode() != _digest(data, found):
            raise InputError(f"damaged: its checksum does not agree; {_REMEDY}")
        return
    parts = graphs.files(model)
    if not storage.lexists(model / SUMS):
        return
    text = (model / SUMS).read_bytes().decode(errors="replace") if (model / SUMS).is_file() else "no file"
    found = [_LINE.fullmatch(line.strip()) for line in text.split("\n") if line.strip()]
    if None in found:
        raise InputError(f"damaged: {SUMS} in it is no list of checksums; {_REMEDY}")
    sums = {line[2]: line[1].lower() for line in found}
    for name in sorted({*sums, "saved_model.pb", *(name for name in parts if "/" in name)}):  # beside these people may put what they like
        problem = "it is missing" if name not in parts else f"it is not in {SUMS}" if name not in sums else None
        if problem or _of_file(parts[name]) != sums[name]:
            raise InputError(f"damaged: {name} in it, {problem or 'its checksum does not agree'}; {_REMEDY}")


def of(model: AnyPath, data: bytes | None) -> str:
    """16 digits that tell a model from others: of what a file holds, `data`, or of the files that TensorFlow loads of a folder."""
    if data is None:
        parts = {name: file for name, file in graphs.files(model).items() if name == "saved_model.pb" or "/" in name}
        data = "".join(f"{_of_file(file)}  {name}\n" for name, file in sorted(parts.items())).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def _of_file(file: AnyPath) -> str:
    if isinstance(file, Path):
        with open(file, "rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _digest(data: bytes, field: re.Match) -> str:
    """The checksum of a file's content, with zeros in the place of the checksum."""
    whole = memoryview(data)
    digest = hashlib.sha256(whole[: field.start()])
    digest.update(FIELD["sha256"].encode())
    digest.update(whole[field.end() :])
    return digest.hexdigest()
