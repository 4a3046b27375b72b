"""What TensorBoard shows of a run that was stopped and continued: each step once, as it was done last."""

import numpy as np
import tensorflow as tf
from kills import scalars
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from training.summaries import Summaries


def log(run, step: int, values: dict[int, float]) -> None:
    summaries = Summaries(run, step)
    for at, value in values.items():
        summaries.write({"loss/G": tf.constant(value)}, at)
    summaries.close()


def test_what_is_done_again_is_shown_once(tmp_path):
    log(tmp_path, 0, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4})
    for file in tmp_path.iterdir():  # as if that had been long ago
        start, seconds, rest = file.name.partition("tfevents.")[0], "0000000001", file.name.split(".", 4)[4]
        file.rename(tmp_path / f"{start}tfevents.{seconds}.{rest}")
    log(tmp_path, 2, {3: 0.33, 5: 0.55})
    assert scalars(tmp_path)["loss/G"] == [(step, np.float32(value)) for step, value in ((1, 0.1), (2, 0.2), (3, 0.33), (5, 0.55))]


def test_sheets_and_texts_are_shown(tmp_path):
    summaries = Summaries(tmp_path, 0)
    sheet = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    summaries.write({"test": sheet[np.newaxis]}, 3)
    summaries.write({"health/G_copies": "it copies"}, 4)
    summaries.close()
    found = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    (image,), (text,) = found.Tensors("test"), found.Tensors("network_health/G_copies")
    assert (image.step, text.step, text.tensor_proto.string_val[0]) == (3, 4, b"it copies")
    assert np.array_equal(tf.io.decode_image(tf.make_ndarray(image.tensor_proto)[2]), sheet)
