"""`Reader`: records → batches of pictures in [-1, 1].

Which record, crop and flip row i of step t gets is a function of (seed, t, i) alone, so any step can be the first, at once.
"""

import os
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from pictures import fingerprints, shards
from pictures.cropping import MOST, resized_square
from pictures.records import FEATURES, BadRecord, Shard, from_record, pairs_of, record_headers
from system import storage
from system.cli import InputError
from utils import convert2float

_DAMAGED, _NO_PICTURE, _NO_PARTNER = "damaged or cut off", "no picture in it", "its partner cannot be read"


class Reader:
    """The pictures of a data set as batches: of a TFRecord file, or of several, given as a list, a pattern or FILE@N (`shards.find`).

    Records are numbered through all files, so that a data set gives the same batches whether it lies in one file or in many.

    Training: aspect kept, short side to `load_size` (antialiased bicubic; [image_size]), random crop to `image_size`, random flip.
    Evaluation (`training=False`): short side to `image_size`, centre crop, in the files' order, once.

    `rows` and `share` are for one of several processes that train together. `rows`: (first, count) of the rows of every batch that this
    reader feeds. `share`: (process, processes): each reads its own shards of FILE@N, and makes its own batches of them.
    `decoder`: see `from_record`. `paired`: order, crop and flip do not depend on `name`, as record i of X and record i of Y are a pair.

    Opening checks the files; raises `InputError`. `len(reader)` counts the records, `total` those of all processes; `bad` are left out.
    """

    def __init__(
        self,
        data: shards.Files,
        image_size: int,
        load_size: int | None = None,
        batch_size: int = 1,
        name: str = "",
        seed: int = 0,
        training: bool = True,
        skip_bad_records: bool = False,
        rows: tuple[int, int] | None = None,
        share: tuple[int, int] | None = None,
        decoder: str = "exact",
        paired: bool = False,
    ):
        self.file = shards.describe(data)
        self.image_size, self.load_size, self.batch_size = image_size, load_size or image_size, batch_size
        self.name, self.training, self.skip_bad_records, self.share, self.decoder = name, training, skip_bad_records, share, decoder
        # The name is part of the seed: X and Y of equal count would otherwise meet in the same pairs in every epoch.
        self.paired, salt = paired, "" if paired else name
        self.seed = (seed, zlib.crc32(salt.encode()) + (share[0] if share else 0))
        self.first_row, self.row_count = rows or (0, batch_size)
        if not 0 <= self.first_row < self.first_row + self.row_count <= batch_size:
            raise ValueError(f"rows {rows}: not within a batch of {batch_size}; give (first, count)")
        if rows and not training:
            raise ValueError(f"rows {rows}: evaluation passes all pictures once; leave rows out")

        self.shards: list[Shard] = []
        files = shards.share(data, *share) if share else shards.find(data)
        offsets, headers, cut_off = zip(*(record_headers(file, skip_bad_records) for file in files), strict=True)
        for file, own_headers, is_cut_off in zip(files, headers, cut_off, strict=True):
            fingerprint = fingerprints.of_file(own_headers, storage.size(storage.path(file)))
            self.shards.append(Shard(file, len(own_headers), is_cut_off, fingerprint))
        self.cut_off = any(cut_off)
        self.fingerprint = fingerprints.joined([shard.fingerprint for shard in self.shards])
        if not share:  # then it is the same in however many files the records lie
            self.fingerprint["headers"] = fingerprints.digest(*headers)
        self.bad: dict[int, str] = {}
        self.stand_ins: dict[int, int] = {}
        self._number(offsets)
        self._check_first_records()

    def _number(self, offsets: Sequence[np.ndarray]) -> None:
        """Numbers the records through, given where those of each file start."""
        counts = [len(starts) for starts in offsets]
        self.count = self.total = sum(counts)
        self.firsts = np.cumsum([0, *counts[:-1]])  # the number of each file's first record
        with tf.device("CPU:0"):
            # Tensors that the input pipeline takes in as they are: NumPy arrays would be copied into its graph, more than once.
            self._offsets, self._firsts = tf.constant(np.concatenate(offsets)), tf.constant(self.firsts)
            self._files = tf.constant([shard.file for shard in self.shards])

    def _check_first_records(self) -> None:
        """Raises `InputError` if the first record of a file has no picture in it, or is damaged and may not be left out."""
        for first, shard in zip(self.firsts.tolist(), self.shards, strict=True):
            problem = self._problem(first)
            if problem == _NO_PICTURE:
                problem = f"record 0 has no {' and '.join(FEATURES)}, or no picture that can be read"
                raise InputError(f"{shard.file}: {problem}; make it with build_data.py")
            if problem and not self.skip_bad_records:
                remedy = "make it anew with build_data.py --overwrite, or add --skip_bad_records"
                raise InputError(f"{shard.file}: damaged in record 0; {remedy}")
            if problem:
                self.leave_out({first: problem})

    def __len__(self) -> int:
        return self.count

    def place(self, number: int) -> tuple[str, int]:
        """Returns the file in which a record lies, and its number in there."""
        shard = int(np.searchsorted(self.firsts, number, side="right")) - 1
        return self.shards[shard].file, number - int(self.firsts[shard])

    def describe(self, bad: dict[int, str]) -> str:
        """Says of each of `bad` (number → what is wrong with it) in which file it lies, and where in it."""
        by_file: dict[str, list[str]] = {}
        for number, problem in bad.items():
            file, within = self.place(number)
            by_file.setdefault(file, []).append(f"record {within} (counted from 0): {problem}")
        return "; ".join(f"{file}: {', '.join(records)}" for file, records in by_file.items())

    def leave_out(self, bad: dict[int, str]) -> None:
        """From the next `feed` on, the next good record takes the place of each of `bad` (number → what is wrong with it).

        That keeps the place of all others: what a step sees is the same whenever the damage is found. Raises `InputError` if none is left.
        """
        self.bad |= bad
        first_good = next((number for number in range(len(self)) if number not in self.bad), None)
        if first_good is None:
            raise InputError(f"{self.file}: no record can be read; make it anew with build_data.py --overwrite")
        self.stand_ins = {}
        for number in sorted(self.bad, reverse=True):
            following = number + 1 if number + 1 < len(self) else first_good
            self.stand_ins[number] = self.stand_ins.get(following, following)

    def expect(self, *records: int) -> None:
        """Numbers the records as if each file had so many, if not more already; those that are missing because it is cut off are bad."""
        offsets = np.split(self._offsets.numpy(), self.firsts[1:])
        records = tuple(max(count, len(starts)) for count, starts in zip(records, offsets, strict=True))
        known = [(*self.place(number), problem) for number, problem in self.bad.items()]
        self._number([np.pad(starts, (0, count - len(starts))) for starts, count in zip(offsets, records, strict=True)])
        first = {shard.file: int(number) for shard, number in zip(self.shards, self.firsts, strict=True)}
        bad = {first[file] + within: problem for file, within, problem in known}
        for shard, count in zip(self.shards, records, strict=True):
            bad |= {first[shard.file] + within: _DAMAGED for within in range(shard.records, count)}
        self.bad = {}
        self.leave_out(bad)

    def bad_records(self, step: int) -> dict[int, str]:
        """This step's records that cannot be read: number → what is wrong with it. Raises `BadRecord` if a whole file cannot be read."""
        begin = step * self.batch_size + self.first_row
        rows = range(begin, begin + self.row_count)
        indices = {int(self._index(tf.constant(row, tf.int64))) if self.training else row % len(self) for row in rows}
        problems = {}
        for number in sorted({self.stand_ins.get(index, index) for index in indices}):
            try:
                problems[number] = self._problem(number)
            except tf.errors.OpError:
                raise BadRecord(f"{self.place(number)[0]}: can no longer be read; bring it back") from None
        return {number: problem for number, problem in problems.items() if problem}

    def finds_bad(self, number: int) -> bool:
        """Tells whether a record cannot be read, which then is left out. Raises `InputError` if it may not be."""
        if number in self.bad:
            return True
        if not (problem := self._problem(number)):
            return False
        if not self.skip_bad_records:
            remedy = "make it anew of the same pictures, or add --skip_bad_records"
            raise InputError(f"{self.describe({number: problem})}; {remedy}")
        self.leave_out({number: problem})
        return True

    def pairs(self, number: int) -> bytes:
        """What a record says of the pairs that it is one picture of: a digest of all of them; nothing if there are none."""
        with tf.device("CPU:0"):
            return pairs_of(self._read(tf.constant(number, tf.int64))).numpy()

    def feed(self, first_step: int = 0) -> tf.data.Dataset:
        """Batches float32 (B, image_size, image_size, 3) in [-1, 1], endless from `first_step` on, or once through; B as `rows` says."""
        numbers = (first_step * self.row_count, tf.int64.max) if self.training else (0, len(self))
        picture = self._training_picture if self.training else self._evaluation_picture
        picture = tf.autograph.experimental.do_not_convert(picture)  # there is nothing to convert, and looking for it takes long
        pictures = tf.data.Dataset.range(*numbers).map(picture, num_parallel_calls=os.cpu_count() or 1)
        return pictures.batch(self.row_count, drop_remainder=self.training).prefetch(tf.data.AUTOTUNE)

    def _problem(self, number: int) -> str | None:
        """Says what is wrong with a record, if anything."""
        try:
            with tf.device("CPU:0"):  # where the offsets are
                record = self._read(tf.constant(number, tf.int64))
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):  # the latter: there is nothing at that place any more
            return _DAMAGED
        try:
            from_record(record)
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError):  # the latter: TensorFlow quotes what is no record of pictures
            return _NO_PICTURE
        return None

    def _record(self, index: tf.Tensor) -> tf.Tensor:
        """Reads one record by its number, or the one that takes its place; the checksum is verified."""
        if not self.stand_ins:
            return self._read(index)
        bad, stand_ins = (tf.constant(numbers, tf.int64) for numbers in zip(*sorted(self.stand_ins.items()), strict=True))
        at = tf.minimum(tf.searchsorted(bad, [index])[0], len(self.stand_ins) - 1)
        return self._read(tf.where(tf.gather(bad, at) == index, tf.gather(stand_ins, at), index))

    def _read(self, number: tf.Tensor) -> tf.Tensor:
        file = tf.gather(self._files, tf.searchsorted(self._firsts, [number], side="right")[0] - 1)
        offset = tf.gather(self._offsets, number)
        variant = tf.raw_ops.TFRecordDatasetV2(filenames=[file], compression_type="", buffer_size=0, byte_offsets=[offset])
        return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string)).take(1).get_single_element()

    def _index(self, row: tf.Tensor) -> tf.Tensor:
        """Which record a row gets; `row` counts the pictures of all steps: t · batch_size + i."""
        order = tf.random.fold_in(self.seed, row // len(self))  # one for each epoch
        return tf.random.experimental.index_shuffle(row % len(self), order, tf.constant(len(self) - 1, tf.int64))

    def _training_picture(self, n: tf.Tensor) -> tf.Tensor:
        """The n-th picture that this reader feeds."""
        row = n // self.row_count * self.batch_size + self.first_row + n % self.row_count
        chance = tf.random.fold_in(tf.random.fold_in(self.seed, -1), row)  # -1 is no epoch

        def anywhere(room: tf.Tensor) -> tf.Tensor:  # as tf.image.stateless_random_crop
            number = tf.random.stateless_uniform((3,), tf.random.fold_in(chance, 0), maxval=tf.int32.max, dtype=tf.int32)
            return number[:2] % (room + 1)

        picture = self._cut(self._index(row), self.load_size, anywhere)
        picture = tf.image.stateless_random_flip_left_right(picture, tf.random.fold_in(chance, 1))
        return tf.clip_by_value(convert2float(picture), -1, 1)

    def _evaluation_picture(self, index: tf.Tensor) -> tf.Tensor:
        picture = self._cut(index, self.image_size, lambda room: room // 2)
        return tf.clip_by_value(convert2float(picture), -1, 1)

    def _cut(self, index: tf.Tensor, short_side: int, place: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """A square of `image_size` from a record's picture, whose shorter side becomes `short_side`, aspect kept; float32 (H, W, 3).

        `place`: how much more the picture has, int32 (2,) → where the square begins. Bicubic may leave 0 … 255.
        """
        _, picture = from_record(self._record(index), self.decoder)
        own = tf.cast(tf.shape(picture)[:2], tf.float64)
        size = tf.cast(tf.round(own * (short_side / tf.reduce_min(own))), tf.int32)
        cut = resized_square(picture, size, place(size - self.image_size), self.image_size, MOST)
        return tf.ensure_shape(cut, (self.image_size, self.image_size, 3))


def match(X: Reader, Y: Reader) -> None:
    """Makes sure that the records of two `paired` readers are pairs: what one leaves out, the other does, too. Raises `InputError`."""
    remedy = "make both with one call of build_data.py --paired"
    if same := {shard.file for shard in X.shards} & {shard.file for shard in Y.shards}:
        raise InputError(f"--{X.name}, --{Y.name}: are both {min(same)}; name the file of the partners for one of them")
    counts = [[shard.records for shard in reader.shards] for reader in (X, Y)]
    if counts[0] != counts[1] and (X.cut_off or Y.cut_off or X.share):  # otherwise the same records may lie in other shards
        whole = [max(records) for records in zip(*counts, strict=False)]
        if len(counts[0]) != len(counts[1]) or not all(
            s.cut_off or s.records == n for r in (X, Y) for s, n in zip(r.shards, whole, strict=True)
        ):
            why = "as --shard_data needs it" if X.share else "as a file that is cut off needs it"
            raise InputError(f"{X.file}, {Y.file}: are not the same pairs in the same shards, {why}; {remedy}")
        for reader in (X, Y):
            reader.expect(*whole)
    if len(X) != len(Y):
        raise InputError(f"{X.file}, {Y.file}: are not of the same pairs, but {len(X)} and {len(Y)} pictures; {remedy}")
    for first in sorted({*X.firsts.tolist(), *Y.firsts.tolist()}):  # each file may be of another set
        number = next((n for n in range(first, len(X)) if not any(reader.finds_bad(n) for reader in (X, Y))), None)
        digests = [b"none left"] * 2 if number is None else [reader.pairs(number) for reader in (X, Y)]
        if not all(digests):
            file = (Y if digests[0] else X).place(number)[0]
            raise InputError(f"{file}: its pictures are of no pairs; make both files with build_data.py --paired")
        if digests[0] != digests[1]:
            raise InputError(f"{X.place(number)[0]}, {Y.place(number)[0]}: are not of the same pairs; {remedy}")
    _leave_out_partners(X, Y)


def _leave_out_partners(X: Reader, Y: Reader) -> None:
    for one, other in ((X, Y), (Y, X)):
        if alone := {number: _NO_PARTNER for number in one.bad if number not in other.bad}:
            other.leave_out(alone)


def feed_pairs(X: Reader, Y: Reader, step: int = 0) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields the batches of both from `step` on, without end. Records that cannot be read are left out, or raise `BadRecord`."""
    options = tf.data.Options()
    options.autotune.enabled = False  # the end of a run would wait for what it is just trying out, now and then 20 seconds
    while True:
        try:
            for pair in tf.data.Dataset.zip((X.feed(step), Y.feed(step))).with_options(options):
                yield pair
                step += 1
        except (tf.errors.OpError, UnicodeDecodeError):
            found = False
            for reader in (X, Y):
                bad = reader.bad_records(step)
                if bad and not reader.skip_bad_records:
                    raise BadRecord(f"{reader.describe(bad)}; make it anew of the same pictures, or add --skip_bad_records") from None
                reader.leave_out(bad)
                found |= bool(bad)
            if X.paired:
                _leave_out_partners(X, Y)
            if not found:
                raise
