"""The device that computes: a quiet start of TensorFlow, threads, and number types."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STRATEGIES = ("auto", "one", "mirrored", "multiworker")  # of training on one device or several; `system.workers` has them


def share_threads() -> None:
    """Before TensorFlow is loaded: an operation gets half of the processors, as those of two translations run side by side in a step."""
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Withholds what C++ code writes to stderr, and writes it out only if the block fails."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:  # not Ctrl-C
            held.seek(0)
            with contextlib.suppress(OSError):  # nobody may be reading
                os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def quiet_tensorflow(open_devices: Callable[[], Any] | None = None) -> Any:
    """Imports TensorFlow, without the start-up lines that no logging variable turns off, and returns what `open_devices()` does.

    By default that is TensorFlow's own way to open them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with silent_stderr():
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # else there is a warning for each value of a checkpoint that does not fit
        return (open_devices or tf.config.list_logical_devices)()


def device_name() -> str:
    """Names the device that computes: the first GPU, or the CPU."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"


def native_precision() -> str:
    """What `--precision auto` means: "bfloat16" if the device has such arithmetic, else "float32"."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        generation = min(tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus)
        return "bfloat16" if generation >= (8, 0) else "float32"  # NVIDIA's from 2020 on
    cpu = Path("/proc/cpuinfo")  # Linux
    words = set(cpu.read_text(encoding="utf-8", errors="replace").split()) if cpu.is_file() else set()
    return "bfloat16" if words & {"avx512_bf16", "amx_bf16"} else "float32"


@contextlib.contextmanager
def number_type(precision: str) -> Iterator[None]:
    """Layers made in this block compute in "float32", "bfloat16" or "float16"; their weights are float32 in any case."""
    import keras

    before = keras.config.dtype_policy()
    if precision != "float32":
        keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
