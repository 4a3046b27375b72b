"""The schema of a record, and the headers of TFRecord files."""

import numpy as np
import tensorflow as tf
from conftest import draw

from pictures import images, records
from pictures.records import to_record


def test_a_record_holds_the_original_projects_features():
    example = tf.train.Example.FromString(to_record("a/ü.png", b"data"))
    features = {k: v.bytes_list.value[0] for k, v in example.features.feature.items()}
    assert features == {"image/file_name": "a/ü.png".encode(), "image/encoded_image": b"data"}


def test_a_record_is_read_as_it_was_written():
    name, picture = records.from_record(tf.constant(to_record("a.png", images.encode(draw(0, 5, 7)))))
    assert name.numpy() == b"a.png" and np.array_equal(picture, draw(0, 5, 7))


def test_a_grey_picture_is_read_as_three_channels():
    grey = draw(0, 5, 7)[..., :1]
    _, picture = records.from_record(tf.constant(to_record("a.png", tf.io.encode_png(grey).numpy())))
    assert np.array_equal(picture, grey.repeat(3, axis=2))


def test_checksums_are_crc32c():
    assert records._crc32c(np.frombuffer(b"123456789", np.uint8)[None])[0] == 0xE3069283  # the check value of its definition
