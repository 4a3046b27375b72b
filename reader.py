"""The TFRecord schema, and `Reader`: records → batches of pictures in [-1, 1].

Which record, crop and flip row i of step t gets is a function of (seed, t, i) alone, so any step can be the first, at once.
"""

import zlib
from pathlib import Path

import numpy as np
import tensorflow as tf

from cli import InputError
from utils import convert2float

FEATURES = {"image/file_name": tf.io.FixedLenFeature([], tf.string), "image/encoded_image": tf.io.FixedLenFeature([], tf.string)}
_HEADER, _FOOTER = 12, 4  # of a record: length (8 bytes) and its checksum (4) before the data, the data's checksum (4) after


def to_record(file_name: str, encoded_image: bytes) -> bytes:
    """Serializes one picture: its name, and its JPEG or PNG file."""
    values = {"image/file_name": file_name.encode(), "image/encoded_image": encoded_image}
    features = {k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for k, v in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def from_record(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A serialized record → the picture's name, and the picture as uint8 (H, W, 3)."""
    example = tf.io.parse_single_example(record, FEATURES)
    picture = tf.io.decode_image(example["image/encoded_image"], channels=3, expand_animations=False)
    return example["image/file_name"], tf.ensure_shape(picture, (None, None, 3))


def _crc32c(data: np.ndarray) -> np.ndarray:
    """CRC-32C of each row of uint8 (n, bytes), as uint32 (n,)."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1)
    crc = np.full(len(data), 0xFFFFFFFF, np.uint32)
    for column in data.T:
        crc = table[(crc ^ column) & 0xFF] ^ crc >> 8
    return crc ^ np.uint32(0xFFFFFFFF)


def record_offsets(file: str) -> np.ndarray:
    """Walks the headers of a TFRecord file and returns where each record starts, int64 (n,).

    Raises `InputError` if the file is missing, empty, truncated, or no TFRecord file.
    """
    if not tf.io.gfile.exists(file) or tf.io.gfile.isdir(file):
        raise InputError(f"{file}: no such file; make it with build_data.py")
    size, offset, offsets, headers = tf.io.gfile.stat(file).length, 0, [], []
    if size == 0:
        raise InputError(f"{file}: empty; make it anew with build_data.py --overwrite")
    with tf.io.gfile.GFile(file, "rb") as f:
        while offset < size:
            f.seek(offset)
            header = f.read(_HEADER)
            length = int.from_bytes(header[:8], "little")
            end = offset + _HEADER + length + _FOOTER
            if not offsets and (len(header) < _HEADER or not _checksums_hold([header])):
                raise InputError(f"{file}: no TFRecord file (or a compressed one); make it with build_data.py")
            if end > size:
                raise InputError(f"{file}: cut off or damaged in record {len(offsets)} of at least {len(offsets) + 1}; make it anew")
            offsets.append(offset)
            headers.append(header)
            offset = end
    if not _checksums_hold(headers):
        raise InputError(f"{file}: damaged record headers; make it anew with build_data.py --overwrite")
    return np.asarray(offsets, np.int64)


def _checksums_hold(headers: list[bytes]) -> bool:
    table = np.frombuffer(b"".join(headers), np.uint8).reshape(-1, _HEADER)
    crc = _crc32c(table[:, :8])
    masked = (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)  # TFRecord's way of storing checksums
    return np.array_equal(masked, table[:, 8:].copy().view("<u4")[:, 0])


class Reader:
    """The pictures of one TFRecord file, as batches.

    Training: aspect kept, short side to `load_size` (antialiased bicubic), random crop to `image_size`, random flip.
    Evaluation (`training=False`): short side to `image_size`, centre crop, in the file's order, once.

    Opening checks the file; raises `InputError`. `len(reader)` is the number of records.
    """

    def __init__(
        self,
        tfrecords_file: str | Path,
        image_size: int = 256,
        load_size: int | None = None,
        batch_size: int = 1,
        name: str = "",
        seed: int = 0,
        training: bool = True,
    ):
        self.file = str(tfrecords_file)
        self.image_size, self.batch_size, self.name, self.training = image_size, batch_size, name, training
        self.load_size = load_size or round(image_size * 286 / 256)
        # The name is part of the seed: X and Y of equal count would otherwise meet in the same pairs in every epoch.
        self.seed = (seed, zlib.crc32(name.encode()))
        self.offsets = record_offsets(self.file)
        try:
            from_record(self._record(tf.constant(0, tf.int64)))
        except tf.errors.DataLossError:
            raise InputError(f"{self.file}: damaged in record 0; make it anew with build_data.py --overwrite") from None
        except tf.errors.InvalidArgumentError:
            names = " and ".join(FEATURES)
            raise InputError(f"{self.file}: record 0 has no {names}, or no picture in it; make it with build_data.py") from None

    def __len__(self) -> int:
        return len(self.offsets)

    def feed(self, first_step: int = 0) -> tf.data.Dataset:
        """Returns batches float32 (batch_size, image_size, image_size, 3) in [-1, 1]: endless from `first_step` on, or once through."""
        if self.training:
            rows = tf.data.Dataset.range(first_step * self.batch_size, tf.int64.max)
            pictures = rows.map(self._training_picture, num_parallel_calls=tf.data.AUTOTUNE)
        else:
            pictures = tf.data.Dataset.range(len(self)).map(self._evaluation_picture, num_parallel_calls=tf.data.AUTOTUNE)
        return pictures.batch(self.batch_size, drop_remainder=self.training).prefetch(tf.data.AUTOTUNE)

    def _record(self, index: tf.Tensor) -> tf.Tensor:
        """Reads one record by its number; its checksum is verified."""
        offset = tf.gather(tf.constant(self.offsets), index)
        variant = tf.raw_ops.TFRecordDatasetV2(filenames=[self.file], compression_type="", buffer_size=0, byte_offsets=[offset])
        return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(1).get_single_element()

    def _training_picture(self, row: tf.Tensor) -> tf.Tensor:
        """`row` counts the pictures of all steps: t · batch_size + i."""
        epoch, position = row // len(self), row % len(self)
        order = tf.random.fold_in(self.seed, epoch)
        index = tf.random.experimental.index_shuffle(position, order, tf.constant(len(self) - 1, tf.int64))
        _, picture = from_record(self._record(index))

        chance = tf.random.fold_in(tf.random.fold_in(self.seed, -1), row)  # -1 is no epoch
        picture = self._resize(picture, self.load_size)
        picture = tf.image.stateless_random_crop(picture, (self.image_size, self.image_size, 3), tf.random.fold_in(chance, 0))
        picture = tf.image.stateless_random_flip_left_right(picture, tf.random.fold_in(chance, 1))
        return tf.clip_by_value(convert2float(picture), -1, 1)

    def _evaluation_picture(self, index: tf.Tensor) -> tf.Tensor:
        _, picture = from_record(self._record(index))
        picture = self._resize(picture, self.image_size)
        picture = tf.image.resize_with_crop_or_pad(picture, self.image_size, self.image_size)
        return tf.clip_by_value(convert2float(picture), -1, 1)

    @staticmethod
    def _resize(picture: tf.Tensor, short_side: int) -> tf.Tensor:
        """uint8 (H, W, 3) → float32 (H', W', 3) whose shorter side is `short_side`, aspect kept; bicubic may leave 0 … 255."""
        size = tf.cast(tf.shape(picture)[:2], tf.float64)
        size = tf.cast(tf.round(size * (short_side / tf.reduce_min(size))), tf.int32)
        return tf.image.resize(picture, tf.maximum(size, short_side), "bicubic", antialias=True)
