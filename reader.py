"""The TFRecord schema, and `Reader`: records → batches of pictures in [-1, 1].

Which record, crop and flip row i of step t gets is a function of (seed, t, i) alone, so any step can be the first, at once.
"""

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from cli import InputError
from utils import convert2float

FEATURES = {"image/file_name": tf.io.FixedLenFeature([], tf.string), "image/encoded_image": tf.io.FixedLenFeature([], tf.string)}
_DAMAGED, _NO_PICTURE = "damaged or cut off", "no picture in it"
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


def record_headers(file: str, skip_bad: bool = False) -> tuple[np.ndarray, list[bytes], bool]:
    """Walks a TFRecord file and returns where each record starts, int64 (n,), the records' headers, and whether the file is cut off.

    Raises `InputError` if the file is missing, empty, cut off or damaged in a header, or no TFRecord file. With `skip_bad` a file counts as
    cut off where it is damaged: what follows cannot be found.
    """
    try:
        found = tf.io.gfile.exists(file) and not tf.io.gfile.isdir(file)
    except tf.errors.OpError:  # scheme://file, of a file system that is not at hand
        found = False
    if not found:
        raise InputError(f"{file}: no such file; make it with build_data.py")
    size, offset, offsets, headers = tf.io.gfile.stat(file).length, 0, [], []
    if size == 0:
        raise InputError(f"{file}: empty; make it anew with build_data.py --overwrite")
    with tf.io.gfile.GFile(file, "rb") as f:
        while offset < size:
            f.seek(offset)
            header = f.read(_HEADER)
            end = offset + _HEADER + int.from_bytes(header[:8], "little") + _FOOTER
            if not offsets and (len(header) < _HEADER or not _checksums_hold([header]).all()):
                raise InputError(f"{file}: no TFRecord file (or a compressed one); make it with build_data.py")
            if end > size:  # cut off, or the length is wrong
                break
            offsets.append(offset)
            headers.append(header)
            offset = end
    good = _checksums_hold(headers)
    whole = len(good) if good.all() else int(good.argmin())
    cut_off = whole < len(good) or offset < size
    if cut_off and not (skip_bad and whole):
        raise InputError(f"{file}: damaged or cut off in record {whole} (counted from 0); make it anew, or add --skip_bad_records")
    return np.asarray(offsets[:whole], np.int64), headers[:whole], cut_off


def _checksums_hold(headers: list[bytes]) -> np.ndarray:
    """Tells of each header whether its length and its checksum agree, bool (n,)."""
    table = np.frombuffer(b"".join(headers), np.uint8).reshape(-1, _HEADER)
    crc = _crc32c(table[:, :8])
    masked = (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)  # TFRecord's way of storing checksums
    return masked == table[:, 8:].copy().view("<u4")[:, 0]


class Reader:
    """The pictures of one TFRecord file, as batches.

    Training: aspect kept, short side to `load_size` (antialiased bicubic), random crop to `image_size`, random flip.
    Evaluation (`training=False`): short side to `image_size`, centre crop, in the file's order, once.

    Opening checks the file; raises `InputError`. `len(reader)` is the number of records, `bad` those that are left out.
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
        skip_bad_records: bool = False,
    ):
        self.file = str(tfrecords_file)
        self.image_size, self.batch_size, self.name, self.training = image_size, batch_size, name, training
        self.load_size = load_size or round(image_size * 286 / 256)
        # The name is part of the seed: X and Y of equal count would otherwise meet in the same pairs in every epoch.
        self.seed = (seed, zlib.crc32(name.encode()))
        self.skip_bad_records = skip_bad_records
        self.offsets, headers, self.cut_off = record_headers(self.file, skip_bad_records)
        size, checksum = tf.io.gfile.stat(self.file).length, hashlib.sha256(b"".join(headers)).hexdigest()[:16]
        self.fingerprint = {"records": len(headers), "bytes": size, "headers": checksum}
        self.bad: dict[int, str] = {}
        self.source = np.arange(len(headers))

        problem = self._problem(0)
        if problem == _NO_PICTURE:
            raise InputError(f"{self.file}: record 0 has no {' and '.join(FEATURES)}, or no picture in it; make it with build_data.py")
        if problem and not skip_bad_records:
            raise InputError(f"{self.file}: damaged in record 0; make it anew with build_data.py --overwrite, or add --skip_bad_records")
        if problem:
            self.leave_out({0: problem})

    def __len__(self) -> int:
        return len(self.source)

    def leave_out(self, bad: dict[int, str]) -> None:
        """From the next `feed` on, the next good record of the file takes the place of each of `bad` (number → what is wrong with it).

        That keeps the place of all others: what a step sees is the same whenever the damage is found. Raises `InputError` if none is left.
        """
        self.bad |= bad
        good = np.setdiff1d(np.arange(len(self)), list(self.bad))
        if not len(good):
            raise InputError(f"{self.file}: no record can be read; make it anew with build_data.py --overwrite")
        self.source = good[np.searchsorted(good, np.arange(len(self))) % len(good)]

    def expect(self, records: int) -> None:
        """Takes the file, which is cut off, for one of so many records; those that cannot be found are bad ones."""
        missing = {i: _DAMAGED for i in range(len(self), records)}
        self.source = np.arange(records)
        self.leave_out(self.bad | missing)

    def bad_records(self, step: int) -> dict[int, str]:
        """The records of this step's batch that cannot be read: number, counted from 0, → what is wrong with it."""
        rows = range(step * self.batch_size, (step + 1) * self.batch_size)
        numbers = sorted({int(self.source[int(self._index(tf.constant(row, tf.int64)))]) for row in rows})
        return {number: problem for number in numbers if (problem := self._problem(number))}

    def feed(self, first_step: int = 0) -> tf.data.Dataset:
        """Returns batches float32 (batch_size, image_size, image_size, 3) in [-1, 1]: endless from `first_step` on, or once through."""
        if self.training:
            rows = tf.data.Dataset.range(first_step * self.batch_size, tf.int64.max)
            pictures = rows.map(self._training_picture, num_parallel_calls=tf.data.AUTOTUNE)
        else:
            pictures = tf.data.Dataset.range(len(self)).map(self._evaluation_picture, num_parallel_calls=tf.data.AUTOTUNE)
        return pictures.batch(self.batch_size, drop_remainder=self.training).prefetch(tf.data.AUTOTUNE)

    def _problem(self, number: int) -> str | None:
        """Says what is wrong with a record, if anything."""
        try:
            record = self._read(self.offsets[number])
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):  # the latter: there is nothing at that place any more
            return _DAMAGED
        try:
            from_record(record)
        except tf.errors.InvalidArgumentError:
            return _NO_PICTURE
        return None

    def _record(self, index: tf.Tensor) -> tf.Tensor:
        """Reads one record by its number, or the one that takes its place; the checksum is verified."""
        return self._read(tf.gather(tf.constant(self.offsets[self.source]), index))

    def _read(self, offset: tf.Tensor) -> tf.Tensor:
        variant = tf.raw_ops.TFRecordDatasetV2(filenames=[self.file], compression_type="", buffer_size=0, byte_offsets=[offset])
        return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(1).get_single_element()

    def _index(self, row: tf.Tensor) -> tf.Tensor:
        """Which record a row gets; `row` counts the pictures of all steps: t · batch_size + i."""
        epoch, position = row // len(self), row % len(self)
        order = tf.random.fold_in(self.seed, epoch)
        return tf.random.experimental.index_shuffle(position, order, tf.constant(len(self) - 1, tf.int64))

    def _training_picture(self, row: tf.Tensor) -> tf.Tensor:
        index = self._index(row)
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


class BadRecord(Exception):
    """A record, or a whole file, cannot be read; the message names it."""


def feed_pairs(X: Reader, Y: Reader, step: int = 0) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields the batches of both from `step` on, without end. Records that cannot be read are left out, or raise `BadRecord`."""
    while True:
        try:
            for pair in tf.data.Dataset.zip((X.feed(step), Y.feed(step))):
                yield pair
                step += 1
        except tf.errors.OpError:
            found = False
            for reader in (X, Y):
                try:
                    bad = reader.bad_records(step)
                except tf.errors.OpError:
                    raise BadRecord(f"{reader.file}: can no longer be read; bring it back") from None
                if bad and not reader.skip_bad_records:
                    records = ", ".join(f"record {number} (counted from 0): {problem}" for number, problem in bad.items())
                    raise BadRecord(f"{reader.file}: {records}; make it anew of the same pictures, or add --skip_bad_records") from None
                reader.leave_out(bad)
                found |= bool(bad)
            if not found:
                raise
