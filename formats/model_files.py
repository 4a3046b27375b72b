"""Model files of all kinds: `load` and `write`, and the table of kinds. A kind has a module in this folder, named as in the table.

To add one: its line in the table, and a module with load(file, data, trust) → `Translator` and write(generator, metadata, file).
"""

import contextlib
import dataclasses
import importlib
import re
import time
from typing import Any, NamedTuple

import numpy as np

from formats import checksums, network
from formats.translator import FORMAT_VERSION, Foreign, Translator
from system import devices, patterns, storage
from system.cli import InputError
from system.storage import AnyPath, path


class Kind(NamedTuple):
    """What has to be known of a kind before its module is imported, which with TensorFlow takes seconds."""

    name: str
    suffix: str
    begins: bytes | None = None  # a pattern, of its files; None: it is a folder
    needs_tensorflow: bool = True


KINDS = {
    "saved_model": Kind("SavedModel", ".pb"),
    # ONNX has no magic number, but a file begins with its version, and then who made it: fields 1, a number, and 2, a text, of its message.
    # A frozen graph of TensorFlow, say, begins with a field 1 that is a message.
    "onnx": Kind("ONNX model", ".onnx", rb"\x08.\x12", needs_tensorflow=False),
    "tflite": Kind("TensorFlow Lite model", ".tflite", rb"....TFL3"),
}


def kind(file: AnyPath, data: bytes | None = None) -> str | None:
    """Tells by its content what a model is, a key of `KINDS`; None if it is none of them. `data`: the content, if it was read before."""
    if file.is_dir():
        return "saved_model" if (file / "saved_model.pb").is_file() else None
    if data is None:
        data = file.read_bytes() if file.is_file() else b""
    return next((name for name, kind in KINDS.items() if kind.begins and re.match(kind.begins, data, re.DOTALL)), None)


def load(file: str | AnyPath, trust: bool = False) -> Translator:
    """Loads a model of export_graph.py, of any kind, or a frozen graph of TensorFlow 1. Raises `InputError` for anything else.

    `trust`: whatever operations it is made of. Otherwise those that pictures do not need, which may read and write files, are an error.
    """
    file = path(file)
    if not file.exists():
        raise InputError(f"{file}: no such model; make it with export_graph.py")
    if not file.is_dir() and file.name == "saved_model.pb":
        raise InputError(f"{file}: is part of a SavedModel; name its folder, {file.parent}")
    data = None if file.is_dir() else storage.read(file)
    found = kind(file, data)
    if found is None and data is None:
        raise InputError(f"{file}: no model (a folder without saved_model.pb); make one with export_graph.py")
    if found is None or KINDS[found].needs_tensorflow:
        devices.quiet_tensorflow()
    name = KINDS[found].name if found else "frozen graph"
    try:
        checksums.verify(file, data)
        model = importlib.import_module(f"formats.{found or 'frozen_graph'}").load(file, data, trust)
        return dataclasses.replace(model, checksum=checksums.of(file, data))
    except InputError as e:
        raise InputError(f"{file}: {e}") from None
    except Foreign:
        raise InputError(f"{file}: {name}, but not one of export_graph.py") from None
    except Exception as e:  # a damaged model can raise nearly anything
        if isinstance(e, MemoryError) or getattr(e, "errno", None):  # the latter is the system's: it cannot be read
            raise
        raise InputError(f"{file}: damaged {name} ({type(e).__name__}); export it anew") from None


def write(
    models: list[tuple[Any, dict, AnyPath]],
    format: str = "saved_model",
    overwrite: bool = False,
    pictures: np.ndarray | None = None,
    xla: bool = False,
) -> list[tuple[AnyPath | None, str]]:
    """Writes generators, each with its metadata, to files, and checks them: all are finished before one takes its name.

    Metadata holds image_size, source and target at least. `pictures`, uint8 (N, H, W, 3), is what files, other than SavedModels, are
    checked with. A model that exists is replaced, or moved to the path that is returned, with what is to be said of the new one.
    """
    with contextlib.ExitStack() as stack:
        found = []
        for generator, metadata, output in models:
            file = stack.enter_context(storage.atomic_write(output))
            sizes = {"multiple": generator.multiple, "smallest": generator.smallest}
            found.append(write_one(generator, {"format_version": FORMAT_VERSION, **sizes, **metadata}, file, format, pictures, xla))
        aside = [set_aside(output) if output.exists() else None for *_, output in models]
    if overwrite:
        for old in filter(None, aside):
            storage.remove(old)
    return [(None if overwrite else old, words) for old, words in zip(aside, found, strict=True)]


def write_one(generator, metadata: dict, file: AnyPath, format: str, pictures: np.ndarray | None, xla: bool) -> str:
    """Writes a model, loads it again, and says how far what it makes is from the generator's own. Raises `Stopped` if that is too far."""
    module = importlib.import_module(f"formats.{format}")
    if format == "saved_model":
        module.write(generator, metadata, file, xla)
        checksums.seal(file)
        return ""
    module.write(generator, metadata | checksums.FIELD, file)
    checksums.seal(file)
    return network.check(KINDS[format].name, load(file), generator, pictures)


def check_output(model: AnyPath, format: str = "saved_model") -> None:
    """Raises `InputError` unless a model can be written there, in the place of another one maybe."""
    if model.exists() and kind(model) != format:
        raise InputError(f"{model}: exists and is no {KINDS[format].name}; name another, or move it away")
    if format == "saved_model":
        patterns.check(model)
    storage.check_place(model)


def set_aside(model: AnyPath) -> AnyPath:
    """Renames a model, or what a link of that name leads to, to one with the time in its name, and returns that."""
    model = storage.behind(model)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (model.with_name(f"{model.stem}-{stamp}{suffix}{model.suffix}") for suffix in ("", *(f"-{n}" for n in range(2, 100))))
    aside = next(name for name in names if not name.exists())
    storage.replace(model, aside)
    return aside
