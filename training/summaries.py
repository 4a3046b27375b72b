"""What TensorBoard shows of a run: one curve for each tag, however often the run was stopped."""

import os
import socket
import time
from typing import Any

import numpy as np
import tensorflow as tf

from system.storage import AnyPath

TAGS = 2  # the version of the tags that a new run gets; in the history of a run of version 1 there is none


class Summaries:
    """Writes events into the folder `run`, from `step` on: what its events say of later steps is void, as those are done again.

    `tags`: the version of the tags that the run has had from its beginning, so that its curves go on.
    """

    def __init__(self, run: AnyPath, step: int, tags: int = TAGS):
        self.tags = tags
        # TensorBoard drops what it has read of the steps after such an event. A run's first only says that there are some. It reads files
        # in the order of their names; this one comes right before that of the writer, which is opened next.
        file = run / f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        with tf.io.TFRecordWriter(str(file)) as writer:
            for event in {"file_version": "brain.Event:2"}, {"step": step + 1, "session_log": start}:
                writer.write(tf.compat.v1.Event(wall_time=time.time(), **event).SerializeToString())
        self.writer = tf.summary.create_file_writer(str(run))

    def write(self, values: dict[str, Any], step: int) -> None:
        """Adds to the curves, by tag: texts, pictures as uint8 (B, H, W, 3), scalars, and of other tensors their histograms."""
        with self.writer.as_default(step):
            for tag, value in values.items():
                tag = tag if self.tags == 1 else in_order(tag)
                if isinstance(value, str):
                    tf.summary.text(tag, value)
                elif np.ndim(value) == 0:
                    tf.summary.scalar(tag, value)
                elif value.dtype == np.uint8:
                    tf.summary.image(tag, value)
                else:
                    tf.summary.histogram(tag, value)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def in_order(tag: str) -> str:
    """What a tag is called for TensorBoard, which sorts by name, to show inputs before what is made of them, and losses before health."""
    group, _, name = tag.partition("/")
    return {"input": f"{group}/1_input"}.get(name, f"network_health/{name}" if group == "health" else tag)
