"""What TensorBoard shows of a run: one curve for each tag, however often the run was stopped."""

import os
import socket
import time

import numpy as np
import tensorflow as tf

from system.storage import AnyPath


class Summaries:
    """Writes events into the folder `run`, from `step` on: what its events say of later steps is void, as those are done again."""

    def __init__(self, run: AnyPath, step: int):
        mark_start(run, step)
        self.writer = tf.summary.create_file_writer(str(run))

    def scalars(self, values: dict[str, tf.Tensor], step: int) -> None:
        with self.writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self.writer.flush()

    def pictures(self, sample: dict[str, tf.Tensor], step: int) -> None:
        """`sample`: what a model's `sample` returns, pictures as uint8 (B, H, W, 3); the discriminators' answers become histograms."""
        with self.writer.as_default(step):
            for name, value in sample.items():
                if name.startswith("D_"):
                    tf.summary.histogram(name, value)
                else:
                    tf.summary.image(name, value)
        self.writer.flush()

    def sheet(self, name: str, sheet: np.ndarray, step: int) -> None:
        """A picture, uint8 (H, W, 3)."""
        with self.writer.as_default(step):
            tf.summary.image(name, sheet[np.newaxis])
        self.writer.flush()

    def text(self, name: str, text: str, step: int) -> None:
        with self.writer.as_default(step):
            tf.summary.text(name, text)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def mark_start(run: AnyPath, step: int) -> None:
    """Writes the event by which TensorBoard drops what it has read of later steps. A run's first only says that there are such events."""
    # TensorBoard reads files in the order of their names; this one comes right before that of the writer, which is opened next.
    file = run / f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
    start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for event in {"file_version": "brain.Event:2"}, {"step": step + 1, "session_log": start}:
            writer.write(tf.compat.v1.Event(wall_time=time.time(), **event).SerializeToString())
