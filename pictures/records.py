"""TFRecord files of pictures: the schema of a record, and the headers by which a file is known to be intact."""

import os
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from pictures import decoding
from system import storage
from system.cli import InputError

FEATURES = {"image/file_name": tf.io.FixedLenFeature([], tf.string), "image/encoded_image": tf.io.FixedLenFeature([], tf.string)}
PAIRS = "image/pairs"
_HEADER, _FOOTER = 12, 4  # of a record: length (8 bytes) and its checksum (4) before the data, the data's checksum (4) after
_BLOCK = 1 << 16  # headers that are checked at a time


class BadRecord(Exception):
    """A record, or a whole file, cannot be read; the message names it."""


@dataclass
class Shard:
    """A file of a data set, as it was when it was opened."""

    file: str
    records: int
    cut_off: bool
    fingerprint: dict


def to_record(file_name: str, encoded_image: bytes, pairs: bytes = b"") -> bytes:
    """Serializes one picture: its name, and its JPEG or PNG file; if it is one of a pair, also what tells the set of pairs from others."""
    values = {"image/file_name": file_name.encode(), "image/encoded_image": encoded_image} | ({PAIRS: pairs} if pairs else {})
    features = {k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for k, v in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def pairs_of(record: tf.Tensor) -> tf.Tensor:
    """A serialized record → what it says of the set of pairs, a string; empty if its picture is of none."""
    return tf.io.parse_single_example(record, {PAIRS: tf.io.FixedLenFeature([], tf.string, "")})[PAIRS]


def from_record(record: tf.Tensor, decoder: str = "exact") -> tuple[tf.Tensor, tf.Tensor]:
    """A serialized record → the picture's name, and the picture as uint8 (H, W, 3).

    `decoder` is "exact", as `images.decode` of what build_data.py stores, or "fast", TensorFlow's default: colours of JPEGs are off by a
    level or two on average.
    """
    example = tf.io.parse_single_example(record, FEATURES)
    data = example["image/encoded_image"]

    def by_default():
        return tf.ensure_shape(tf.io.decode_image(data, channels=3, expand_animations=False), (None, None, 3))

    if decoder == "fast":
        return example["image/file_name"], by_default()
    # Of other kinds there are only those in records that TensorFlow decodes as Pillow does.
    return example["image/file_name"], tf.cond(tf.io.is_jpeg(data), lambda: decoding.jpeg(data), by_default)


def _crc32c(data: np.ndarray) -> np.ndarray:
    """CRC-32C of each row of uint8 (n, bytes), as uint32 (n,)."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1)
    crc = np.full(len(data), 0xFFFFFFFF, np.uint32)
    for column in data.T:
        crc = table[(crc ^ column) & 0xFF] ^ crc >> 8
    return crc ^ np.uint32(0xFFFFFFFF)


def record_headers(file: str, skip_bad: bool = False) -> tuple[np.ndarray, np.ndarray, bool]:
    """Reads the headers of a TFRecord file: the offset of each record, int64 (n,), the headers, uint8 (n, 12), and whether it is cut off.

    Raises `InputError` if the file is missing, empty, cut off or damaged in a header, or no TFRecord file. With `skip_bad` a file counts as
    cut off at a damaged header: what follows cannot be found.
    """
    storage.check_regular(storage.path(file))
    if not storage.path(file).is_file():
        raise InputError(f"{file}: no such file; make it with build_data.py")
    size, offset, headers = storage.size(storage.path(file)), 0, bytearray()
    if size == 0:
        raise InputError(f"{file}: empty; make it anew with build_data.py --overwrite")
    remote = "://" in file  # a local file is not read by TensorFlow, which would buffer all data between the headers
    with tf.io.gfile.GFile(file, "rb") if remote else open(file, "rb", buffering=0) as f:
        while offset < size:
            header = (f.seek(offset) or f.read(_HEADER)) if remote else os.pread(f.fileno(), _HEADER, offset)
            end = offset + _HEADER + int.from_bytes(header[:8], "little") + _FOOTER
            if not headers and (len(header) < _HEADER or not _checksums_hold(np.frombuffer(header, np.uint8)[None]).all()):
                raise InputError(f"{file}: no TFRecord file (or a compressed one); make it with build_data.py")
            if end > size:  # cut off, or the length is wrong
                break
            headers += header
            offset = end
    table = np.frombuffer(headers, np.uint8).reshape(-1, _HEADER)
    good = np.concatenate([_checksums_hold(table[i : i + _BLOCK]) for i in range(0, len(table) + 1, _BLOCK)])
    intact = len(good) if good.all() else int(good.argmin())
    cut_off = intact < len(good) or offset < size
    if cut_off and not (skip_bad and intact):
        remedy = "make it anew" if skip_bad else "make it anew, or add --skip_bad_records"
        raise InputError(f"{file}: damaged or cut off in record {intact} (counted from 0); {remedy}")
    ends = np.cumsum(table[:intact, :8].copy().view("<i8")[:, 0] + (_HEADER + _FOOTER))
    return np.concatenate([[0], ends[:-1]]), table[:intact], cut_off


def _checksums_hold(table: np.ndarray) -> np.ndarray:
    """Tells of each header, uint8 (n, 12), whether its length and its checksum agree, bool (n,)."""
    crc = _crc32c(table[:, :8])
    masked = (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)  # TFRecord's way of storing checksums
    return masked == table[:, 8:].copy().view("<u4")[:, 0]
