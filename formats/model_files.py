"""Models that other runtimes than TensorFlow's run, ONNX and TensorFlow Lite, as functions of pictures. Imports no training code."""

import contextlib
import ctypes
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from system import devices
from system.cli import InputError
from system.storage import AnyPath

METADATA = "cyclegan"  # the name under which a file holds its metadata, as JSON
SUFFIXES = {"saved_model": ".pb", "onnx": ".onnx", "tflite": ".tflite"}
NAMES = {"saved_model": "SavedModel", "onnx": "ONNX model", "tflite": "TensorFlow Lite model"}


class OnnxModel:
    """Holds everything, as a SavedModel does: it takes pictures of any size, and pads and rounds by itself."""

    def __init__(self, file: AnyPath, data: bytes):
        try:
            import onnxruntime
        except ImportError:
            raise InputError("an ONNX model needs ONNX Runtime, which is not installed: bash scripts/setup.sh onnx") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what is fatal is raised as well
        options.enable_mem_pattern = False  # which from the second picture on takes more memory, and no less time
        there = onnxruntime.get_available_providers()  # some of which need more than is installed
        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in there]
        model = str(file) if isinstance(file, Path) else data  # of which a session keeps a copy
        self.session = onnxruntime.InferenceSession(model, options, providers=providers)
        with contextlib.suppress(AttributeError):  # glibc alone has it
            ctypes.CDLL(None).malloc_trim(0)  # what loading took, up to twice the model, would stay beside what translating takes
        self.device = self.session.get_providers()[0].removesuffix("ExecutionProvider")
        self.metadata = _parse(self.session.get_modelmeta().custom_metadata_map.get(METADATA))
        names = [x.name for x in (*self.session.get_inputs(), *self.session.get_outputs())]
        if names != ["input_image", "output_image", "generated"]:
            raise _Foreign

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) → uint8 (B, H, W, 3)."""
        return self._run("output_image", pictures)

    def generate(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) → what the network makes of them, before it is rounded: float32 in [-1, 1]."""
        return self._run("generated", pictures)

    def _run(self, output: str, pictures: np.ndarray) -> np.ndarray:
        with memory_error():
            return self.session.run([output], {"input_image": np.ascontiguousarray(pictures, np.uint8)})[0]


class TFLiteModel:
    """Holds the network alone, on floats in [-1, 1] whose height and width are multiples of 4; what else there is to do is done here."""

    device = "CPU"

    def __init__(self, file: AnyPath, data: bytes):
        import tensorflow as tf
        from tensorflow.lite.tools.flatbuffer_utils import schema_fb

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow means to give its interpreter to a package of its own, some day
            self.interpreter = tf.lite.Interpreter(model_content=data, num_threads=os.cpu_count())
        model = schema_fb.Model.GetRootAsModel(data, 0)
        entries = (model.Metadata(i) for i in range(model.MetadataLength()))
        ours = next((entry.Buffer() for entry in entries if entry.Name() == METADATA.encode()), None)
        self.metadata = _parse(None if ours is None else model.Buffers(ours).DataAsNumpy().tobytes())
        self.runner = self.interpreter.get_signature_runner("serving_default")
        with devices.silent_stderr():  # where the first run says which kernels it has found
            self.runner(input_image=np.zeros((1, 8, 8, 3), np.float32))

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) → uint8 (B, H, W, 3)."""
        return np.clip(np.rint((self.generate(pictures) + 1) * 127.5), 0, 255).astype(np.uint8)

    def generate(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) → what the network makes of them, before it is rounded: float32 in [-1, 1]."""
        height, width = pictures.shape[1:3]
        padded = pictures.take(_indices(height), axis=1).take(_indices(width), axis=2)
        with memory_error():
            generated = self.runner(input_image=padded.astype(np.float32) / np.float32(127.5) - 1)["output_image"]
        return generated[:, :height, :width]


def _indices(size: int) -> np.ndarray:
    """Which pixels make an axis a multiple of 4 long, at least 8: mirrored, or the last repeated where there is too little to mirror."""
    index = np.arange(max(-(-size // 4) * 4, 8))
    beyond = 2 * (size - 1) - index if len(index) - size < size else size - 1
    return np.where(index < size, index, beyond)


class _Foreign(Exception):
    """A model of the format, but none of export_graph.py."""


def _parse(metadata: str | bytes | None) -> dict[str, Any]:
    if metadata is None:
        raise _Foreign
    return json.loads(metadata)


@contextlib.contextmanager
def memory_error() -> Iterator[None]:
    """Raises `MemoryError` where a runtime lacks memory, which each says in its own way: inference.py answers it with smaller tiles."""
    try:
        yield
    except Exception as e:
        if type(e).__name__ == "ResourceExhaustedError" or "alloc" in str(e).lower():  # the former is TensorFlow's
            raise MemoryError(str(e)) from None
        raise


def kind(file: AnyPath) -> str | None:
    """Tells by its content what a model is: "saved_model" (a folder), "onnx" or "tflite"; None if it is none of them."""
    if file.is_dir():
        return "saved_model" if (file / "saved_model.pb").is_file() else None
    return kind_of(file.read_bytes()) if file.is_file() else None


def kind_of(data: bytes) -> str | None:
    """The same of a file's content."""
    if data[4:8] == b"TFL3":
        return "tflite"
    # ONNX has no magic number, but a file begins with its version, and then who made it: fields 1, a number, and 2, a text, of its message.
    # A frozen graph of TensorFlow, say, begins with a field 1 that is a message.
    return "onnx" if data[:1] == b"\x08" and data[2:3] == b"\x12" else None


def load(file: AnyPath, data: bytes) -> OnnxModel | TFLiteModel | None:
    """Loads what `file` holds; returns None if it is no model of these runtimes. Raises `InputError` if it is a damaged or foreign one."""
    found = kind_of(data)
    if found is None:
        return None
    try:
        return {"onnx": OnnxModel, "tflite": TFLiteModel}[found](file, data)
    except InputError as e:
        raise InputError(f"{file}: {e}") from None
    except _Foreign:
        raise InputError(f"{file}: {NAMES[found]}, but not one of export_graph.py") from None
    except Exception as e:  # a damaged model can raise nearly anything
        raise InputError(f"{file}: damaged {NAMES[found]} ({type(e).__name__}); export it anew") from None
