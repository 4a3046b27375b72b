import hashlib
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import divide, draw, write_records

from pictures import images, shards
from pictures import records as records_module
from pictures.cropping import resized_square
from pictures.records import record_headers, to_record
from reader import BadRecord, Reader, feed_pairs, match
from system.cli import InputError

SIZES = [(40, 40), (40, 60), (70, 44), (36, 36), (90, 41)]


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    return write_records(tmp_path_factory.mktemp("records") / "x.tfrecords", [draw(i, *size) for i, size in enumerate(SIZES)])


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """Seven plain pictures, told apart by their grey: record i is 30·i."""
    pictures = [np.full((32, 32, 3), 30 * i, np.uint8) for i in range(7)]
    return write_records(tmp_path_factory.mktemp("plain") / "y.tfrecords", pictures)


def take(dataset: tf.data.Dataset, n: int) -> np.ndarray:
    return np.concatenate(list(dataset.take(n).as_numpy_iterator()))


def order(reader: Reader, first_step: int, steps: int) -> list[int]:
    """The numbers of the records of `plain` that the rows of these steps get."""
    rows = take(reader.feed(first_step), steps)
    return [round((row[0, 0, 0] + 1) * 127.5 / 30) for row in rows]


@pytest.fixture(scope="module")
def intact(plain) -> list[int]:
    """The numbers of the records of `plain` that the first rows get."""
    return order(Reader(plain, 32), 0, 28)


class Endless:
    """Stands in for the other domain's reader, to save time."""

    skip_bad_records, asked = True, 0

    paired = False

    def feed(self, step: int) -> tf.data.Dataset:
        return tf.data.Dataset.range(step, tf.int64.max)

    def bad_records(self, step: int) -> dict[int, str]:
        self.asked += 1
        assert self.asked < 20, "the same record is found bad again and again"
        return {}

    def leave_out(self, bad: dict[int, str]) -> None:
        assert not bad


def test_batches_are_floats_from_minus_one_to_one(tmp_path):
    pictures = [np.full((8, 8, 3), (value, 0, 255), np.uint8) for value in (0, 128)]
    x = next(iter(Reader(write_records(tmp_path / "r", pictures), 8, batch_size=2).feed(7))).numpy()
    assert x.shape == (2, 8, 8, 3) and x.dtype == np.float32
    assert np.allclose(np.sort(x[:, 0, 0], axis=0), [(-1, -1, 1), (128 / 127.5 - 1, -1, 1)], atol=1e-6)
    assert (x == x[:, :1, :1]).all()


def test_every_epoch_is_its_own_permutation(intact):
    epochs = [intact[i : i + 7] for i in range(0, 28, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize(
    ("share", "numbers"),
    [
        (None, [2, 4, 6, 3, 5, 1, 0, 1, 4, 3, 2, 5, 0, 6]),
        ((1, 2), [0, 2, 1, 3, 1, 2, 0, 3, 2, 0, 3, 1, 2, 3]),
    ],
)
def test_the_order_of_a_seed_and_a_name_stays_what_it_was(plain, tmp_path, share, numbers):
    """Runs are continued with it."""
    data = divide(plain, tmp_path / "y", 3, 4) if share else plain
    reader = Reader(data, 32, name="X", seed=3, share=share)
    assert [int(reader._index(tf.constant(row, tf.int64))) for row in range(14)] == numbers


def test_any_step_can_be_the_first(records):
    reader = Reader(records, 32, batch_size=2)
    whole = take(reader.feed(), 12)
    assert np.array_equal(take(reader.feed(first_step=5), 3), whole[10:16])


def test_a_far_step_needs_no_reading_through(plain):
    assert sorted(order(Reader(plain, 32, batch_size=7), 10**15, 1)) == list(range(7))


def test_the_batch_size_does_not_change_the_stream(records):
    one, three = Reader(records, 32, batch_size=1), Reader(records, 32, batch_size=3)
    assert np.array_equal(take(one.feed(), 9), take(three.feed(), 3))


def test_seed_and_name_change_the_order(plain):
    readers = [Reader(plain, 32, seed=seed, name=name) for seed, name in ((0, "X"), (1, "X"), (0, "Y"), (0, "X"))]
    orders = [tuple(int(reader._index(tf.constant(row, tf.int64))) for row in range(21)) for reader in readers]
    assert len(set(orders)) == 3 and orders[0] == orders[3]


@pytest.fixture(scope="module")
def ramps(tmp_path_factory) -> Path:
    """Twenty times one picture, in which red tells the column and green the row."""
    row, column = np.mgrid[0:40, 0:40] * 6
    return write_records(tmp_path_factory.mktemp("ramps") / "r", 20 * [np.uint8(np.dstack([column, row, 0 * row]))])


def crops(reader: Reader, steps: int) -> np.ndarray:
    """Of each row of the first steps: left, top, and whether it is flipped, int (rows, 3)."""
    rows = np.rint((take(reader.feed(), steps) + 1) * 127.5).astype(int)
    red, green = rows[:, 0, :, 0], rows[:, :, 0, 1]
    assert set(np.abs(np.diff(red)).ravel()) == set(np.diff(green).ravel()) == {6}
    return np.stack([red.min(axis=1) // 6, green[:, 0] // 6, red[:, 0] > red[:, -1]], axis=1)


def test_nothing_tunes_the_feed_that_its_end_would_wait_for(records, monkeypatch):
    tuned, give = [], tf.data.Dataset.with_options
    monkeypatch.setattr(tf.data.Dataset, "with_options", lambda data, o: tuned.append(o.autotune.enabled) or give(data, o))
    next(feed_pairs(Reader(records, 32), Endless()))
    assert tuned == [False]


def test_each_row_has_a_crop_and_a_flip_of_its_own(ramps):
    found = crops(Reader(ramps, 32, 40, batch_size=10), 20)
    assert [set(values) for values in found.T] == [set(range(9)), set(range(9)), {0, 1}]
    step, epoch, first_rows = found[:10], found[:20], found[::10]
    assert all(len({tuple(crop) for crop in some}) > 0.8 * len(some) for some in (step, epoch, first_rows))
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 0.25  # each by itself; chance alone gives 0.07
    others = [crops(Reader(ramps, 32, 40, batch_size=10, name=name, seed=seed), 2) for name, seed in (("X", 0), ("Y", 0), ("X", 1))]
    assert len({other.tobytes() for other in others}) == 3


def test_the_crops_and_flips_of_a_seed_and_a_name_stay_what_they_were(ramps):
    """Runs are continued with them."""
    assert crops(Reader(ramps, 32, 40, batch_size=6, name="X", seed=3), 1).tolist() == [
        [2, 7, 0],
        [6, 6, 0],
        [5, 5, 1],
        [5, 0, 0],
        [4, 3, 0],
        [0, 6, 1],
    ]


@pytest.mark.parametrize("shape", [(70, 96), (150, 129), (20, 27)])
def test_evaluation_is_the_middle_of_the_picture_resized_as_by_pillow(tmp_path, shape):
    """Aspect kept, bicubic, antialiased: noise shows any other way."""
    noise = np.random.default_rng(0).integers(80, 176, (*shape, 3), np.uint8)
    x = take(Reader(write_records(tmp_path / "r", [noise]), 32, 40, training=False).feed(), 1)[0]
    assert np.abs((x + 1) * 127.5 - images.centre_square(noise, 32)).max() < 1.6  # Pillow rounds twice


def test_training_crops_are_cut_from_the_picture_resized_as_by_pillow(tmp_path):
    noise = np.random.default_rng(0).integers(80, 176, (90, 64, 3), np.uint8)
    x = (take(Reader(write_records(tmp_path / "r", [noise]), 32, 36).feed(2), 1)[0] + 1) * 127.5
    resized = images.resize_short_side(noise, 36)
    assert resized.shape == (51, 36, 3)
    patches = np.lib.stride_tricks.sliding_window_view(resized, (32, 32, 3)).reshape(-1, 32, 32, 3)
    assert min(np.abs(crop - x).max() for patch in patches for crop in (patch, patch[:, ::-1])) < 1.6


def test_without_a_load_size_the_short_side_is_that_of_the_crop(records):
    reader = Reader(records, 32)
    assert (reader.load_size, Reader(records, 32, 36).load_size) == (32, 36)


def test_evaluation_gives_every_picture_once_in_order_without_chance(plain):
    reader = Reader(plain, 32, batch_size=3, training=False)
    batches = list(reader.feed().as_numpy_iterator())
    assert [len(b) for b in batches] == [3, 3, 1]
    assert [round((x[0, 0, 0] + 1) * 127.5 / 30) for b in batches for x in b] == list(range(7))


@pytest.mark.parametrize("training", [True, False])
def test_what_resizing_overshoots_is_clipped(tmp_path, training):
    edge = np.repeat(np.uint8([0, 255]), 24)[None, :, None] * np.ones((48, 1, 3), np.uint8)
    x = take(Reader(write_records(tmp_path / "e", [edge]), 64, 64, training=training).feed(), 1)
    assert (x.min(), x.max()) == (-1, 1)


@pytest.mark.parametrize(("shape", "size"), [((3, 90), (36, 1080)), ((90, 3), (960, 32)), ((70, 96), (36, 49)), ((300, 110), (98, 36))])
def test_a_square_that_is_cut_before_resizing_is_the_same(shape, size):
    """That is what is done with shapes that would become huge."""
    noise, room = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8), np.subtract(size, 32)
    for begin in (room * 0, room // 2, room // 3, room):
        cut, whole = (resized_square(noise, np.int32(size), np.int32(begin), 32, most) for most in (0, 1 << 24))
        assert cut.shape == (32, 32, 3) and np.abs(cut - whole).max() < 0.02


def test_a_picture_of_an_extreme_shape_takes_no_more_than_others(tmp_path):
    """Resized, it would have five billion pixels."""
    line = np.random.default_rng(0).integers(0, 256, (1, 65500, 3), np.uint8)
    x = take(Reader(write_records(tmp_path / "r", [line]), 256, 286, batch_size=2).feed(), 1)
    assert x.shape == (2, 256, 256, 3) and np.ptp(x, axis=1).max() < 1e-5 and x.std(axis=2).min() > 0.05
    (x,) = take(Reader(tmp_path / "r", 256, training=False).feed(), 1)
    middle = np.float32([-1, 9, 9, -1]) / 16 @ line[0, 32748:32752]  # of bicubic interpolation
    assert np.abs((x[0, 127] + 1) * 127.5 - middle.clip(0, 255)).max() < 2


def test_a_jpeg_is_read_as_well(tmp_path):
    file = tmp_path / "a.jpg"
    images.write(file, draw(0, 40, 40))
    with tf.io.TFRecordWriter(str(tmp_path / "r")) as writer:
        writer.write(to_record("a.jpg", file.read_bytes()))
    x = take(Reader(tmp_path / "r", 40, training=False).feed(), 1)[0]
    assert np.abs(x - (draw(0, 40, 40) / 127.5 - 1)).mean() < 0.05


def test_offsets_are_where_records_start(records):
    offsets = record_headers(str(records))[0]
    read = [bytes(r) for r in tf.data.TFRecordDataset(str(records)).as_numpy_iterator()]
    data = records.read_bytes()
    assert [data[o + 12 : o + 12 + len(r)] for o, r in zip(offsets, read, strict=True)] == read
    assert len(Reader(records, 32)) == len(SIZES)


def example(**features: tf.train.Feature) -> bytes:
    features = {name.replace("__", "/"): feature for name, feature in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


PICTURE, TEXT = images.encode(draw(0)), tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"1"]))
FOREIGN = {  # records that hold no picture of ours
    "other features": example(label=TEXT),
    "features of another type": example(
        image__file_name=TEXT, image__encoded_image=tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
    ),
    "no picture": to_record("a.png", b"no picture"),
    "a drawing": to_record("a.svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'),
    "half a picture": to_record("a.png", PICTURE[: len(PICTURE) // 2]),
    "half a record": to_record("a.png", PICTURE)[:-30],
    "no example": bytes(range(128, 256)),
    "a line of text": b"This is no record.",
    "nothing": b"",
}


def spoil(records: Path, file: Path, how: str) -> None:
    data = bytearray(records.read_bytes())
    offsets = record_headers(str(records))[0]
    if how == "empty":
        data = b""
    elif how == "cut in the data":
        data = data[:-30]
    elif how == "cut in a header":
        data = data[: offsets[2] + 5]
    elif how == "a later header":
        data[offsets[2] + 9] ^= 1
    elif how == "a later length":
        data[offsets[2] + 6] ^= 1
    elif how == "first picture":
        data[40] ^= 1
    elif how == "text":
        data = b"This is a text of some length, and no TFRecord file at all.\n" * 4
    elif how == "short text":
        data = b"hi\n"
    if how in FOREIGN:
        with tf.io.TFRecordWriter(str(file)) as writer:
            writer.write(FOREIGN[how])
    else:
        file.write_bytes(data)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("empty", "empty"),
        ("cut in the data", "damaged or cut off in record 4"),
        ("cut in a header", "damaged or cut off in record 2"),
        ("a later header", "damaged or cut off in record 2"),
        ("a later length", "damaged or cut off in record 2"),
        ("first picture", "damaged in record 0"),
        ("text", "no TFRecord file"),
        ("short text", "no TFRecord file"),
        *((how, "record 0 has no image/file_name and image/encoded_image, or no picture that can be read; make it") for how in FOREIGN),
    ],
)
def test_a_file_that_cannot_be_trained_on_is_refused_at_the_door(records, tmp_path, how, words):
    file = tmp_path / "spoilt.tfrecords"
    spoil(records, file, how)
    with pytest.raises(InputError, match=words) as e:
        Reader(file, 32)
    assert str(file) in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["missing.tfrecords", ""])
def test_a_missing_file_or_a_folder_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="no such file"):
        Reader(tmp_path / name, 32)


# --- records that rot


def damage(file: Path, *numbers: int) -> None:
    """Flips a bit in the data of these records."""
    data = bytearray(file.read_bytes())
    for offset in record_headers(str(file))[0][list(numbers)]:
        data[offset + 30] ^= 1
    file.write_bytes(data)


def pairs_order(X: Reader, first_step: int, steps: int) -> list[int]:
    """As `order`, of the batches of `feed_pairs`."""
    pairs = feed_pairs(X, Endless(), first_step)
    rows = [row for _ in range(steps) for row in next(pairs)[0].numpy()]
    return [round((row[0, 0, 0] + 1) * 127.5 / 30) for row in rows]


@pytest.fixture
def rotten(plain, tmp_path) -> Path:
    file = tmp_path / "rotten.tfrecords"
    file.write_bytes(plain.read_bytes())
    damage(file, 2, 3, 6)
    return file


STAND_INS = {2: 4, 3: 4, 6: 0}


def test_stand_ins_are_the_next_good_records(rotten):
    X = Reader(rotten, 32)
    X.leave_out({6: "bad", 2: "bad"})
    X.leave_out({3: "bad"})
    assert X.stand_ins == STAND_INS


def test_the_next_good_record_takes_the_place_of_a_bad_one(intact, rotten):
    X = Reader(rotten, 32, batch_size=4, skip_bad_records=True)
    assert pairs_order(X, 0, 7) == [STAND_INS.get(number, number) for number in intact]
    assert X.bad == dict.fromkeys((2, 3, 6), "damaged or cut off")
    assert X.stand_ins == STAND_INS


@pytest.mark.parametrize("first", [1, 6])
def test_what_a_step_sees_does_not_depend_on_when_the_damage_is_found(intact, rotten, first):
    X = Reader(rotten, 32, batch_size=2, skip_bad_records=True)
    assert pairs_order(X, first, 14 - first) == [STAND_INS.get(number, number) for number in intact[2 * first :]]


def test_the_steps_go_on_after_a_bad_record(rotten):
    """Both domains begin anew, at the step that found it."""
    steps = [int(y) for _, y in itertools.islice(feed_pairs(Reader(rotten, 32, skip_bad_records=True), Endless(), 5), 7)]
    assert steps == list(range(5, 12))


def test_an_error_that_is_of_no_record_is_passed_on():
    class Broken(Endless):
        def feed(self, step: int) -> tf.data.Dataset:
            return super().feed(step).map(lambda n: tf.debugging.check_numerics(tf.constant(float("nan")), "of another kind"))

    with pytest.raises(tf.errors.InvalidArgumentError, match="of another kind"):
        next(feed_pairs(Endless(), Broken()))


def test_a_bad_record_is_named(rotten):
    with pytest.raises(BadRecord) as error:
        pairs_order(Reader(rotten, 32, batch_size=7), 0, 1)
    assert str(error.value).startswith(f"{rotten}: " + ", ".join(f"record {i} (counted from 0): damaged or cut off" for i in (2, 3, 6)))
    assert "--skip_bad_records" in str(error.value)


def test_of_two_files_the_bad_one_is_named(plain, rotten):
    for X, Y in ((plain, rotten), (rotten, plain)):
        with pytest.raises(BadRecord, match=f"^{rotten}: record"):
            next(feed_pairs(Reader(X, 32, batch_size=7), Reader(Y, 32, batch_size=7)))


def test_records_of_another_kind_are_bad_ones(tmp_path):
    file, bad = tmp_path / "mixed.tfrecords", range(1, 1 + len(FOREIGN))
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in (to_record("a.png", PICTURE), *FOREIGN.values(), to_record("b.png", PICTURE)):
            writer.write(record)
    count = len(bad) + 2
    with pytest.raises(BadRecord, match=", ".join(rf"record {i} \(counted from 0\): no picture in it" for i in bad)):
        next(feed_pairs(Reader(file, 32, batch_size=count), Endless()))
    reader = Reader(file, 32, batch_size=count, training=False, skip_bad_records=True)
    assert len(next(feed_pairs(reader, Endless()))[0]) == count and list(reader.bad) == list(bad)


def test_a_record_without_a_picture_is_a_bad_one(tmp_path):
    file = write_records(tmp_path / "r", [draw(0)])
    with tf.io.TFRecordWriter(str(tmp_path / "more")) as writer:
        writer.write(to_record("a.png", b"no picture"))
    file.write_bytes(file.read_bytes() + (tmp_path / "more").read_bytes())
    with pytest.raises(BadRecord, match=r"record 1 \(counted from 0\): no picture in it"):
        pairs_order(Reader(file, 32, batch_size=2), 0, 1)


def test_a_tail_that_is_cut_off_while_training_is_found(plain, tmp_path):
    file = tmp_path / "cut.tfrecords"
    file.write_bytes(plain.read_bytes())
    strict, lenient = Reader(file, 32, batch_size=7), Reader(file, 32, batch_size=7, skip_bad_records=True)
    offsets = record_headers(str(file))[0]
    file.write_bytes(plain.read_bytes()[: offsets[5] + 20])
    with pytest.raises(BadRecord, match=r"record 5 .*: damaged or cut off, record 6 .*: damaged or cut off"):
        pairs_order(strict, 0, 1)
    assert sorted(pairs_order(lenient, 0, 1)) == [0, 0, 0, 1, 2, 3, 4]


def test_a_file_that_is_cut_off_can_be_opened_up_to_there(plain, intact, tmp_path):
    file = tmp_path / "cut.tfrecords"
    offsets = record_headers(str(plain))[0]
    file.write_bytes(plain.read_bytes()[: offsets[5] + 20])
    X = Reader(file, 32, batch_size=7, skip_bad_records=True)
    assert (len(X), X.cut_off, X.bad) == (5, True, {})
    X.expect(7)
    assert (len(X), list(X.bad)) == (7, [5, 6])
    assert pairs_order(X, 0, 4) == [{5: 0, 6: 0}.get(number, number) for number in intact]


@pytest.mark.parametrize("how", ["a later header", "a later length", "cut in a header"])
def test_damage_in_a_header_counts_as_the_end_when_bad_records_are_skipped(records, tmp_path, how):
    spoil(records, tmp_path / "spoilt", how)
    X = Reader(tmp_path / "spoilt", 32, skip_bad_records=True)
    assert (len(X), X.cut_off) == (2, True)


def test_a_file_that_is_cut_off_in_its_first_record_holds_nothing(records, tmp_path):
    (tmp_path / "cut").write_bytes(records.read_bytes()[:40])
    with pytest.raises(InputError, match=r"damaged or cut off in record 0 \(counted from 0\); make it anew$"):
        Reader(tmp_path / "cut", 32, skip_bad_records=True)


def test_the_first_record_may_be_bad_too(records, tmp_path):
    spoil(records, tmp_path / "spoilt", "first picture")
    assert list(Reader(tmp_path / "spoilt", 32, skip_bad_records=True).bad) == [0]


def test_if_no_record_is_left_there_is_nothing_to_train_on(plain, tmp_path):
    file = tmp_path / "r"
    file.write_bytes(plain.read_bytes())
    damage(file, *range(7))
    with pytest.raises(InputError, match="no record can be read"):
        pairs_order(Reader(file, 32, batch_size=7, skip_bad_records=True), 0, 1)


def test_a_file_that_vanishes_is_named_and_not_skipped(plain, tmp_path):
    file = tmp_path / "r"
    file.write_bytes(plain.read_bytes())
    X = Reader(file, 32, skip_bad_records=True)
    file.unlink()
    with pytest.raises(BadRecord, match=f"{file}: can no longer be read; bring it back"):
        pairs_order(X, 0, 1)


def test_the_fingerprint_tells_files_apart(plain, records, tmp_path):
    fingerprints = [Reader(file, 32).fingerprint for file in (plain, records, plain)]
    assert fingerprints[0] == fingerprints[2] != fingerprints[1]
    assert fingerprints[0]["records"] == 7 and fingerprints[0]["bytes"] == plain.stat().st_size
    # Two records swapped: as many records and bytes, other headers.
    data, offsets = records.read_bytes(), [*record_headers(str(records))[0], records.stat().st_size]
    parts = [data[a:b] for a, b in zip(offsets, offsets[1:], strict=False)]
    (tmp_path / "swapped").write_bytes(b"".join([parts[1], parts[0], *parts[2:]]))
    swapped = Reader(tmp_path / "swapped", 32).fingerprint
    assert {key for key in swapped if swapped[key] != fingerprints[1][key]} == {"headers"}


def test_the_fingerprint_of_a_file_stays_what_it_was(plain):
    """Runs hold it: with another one they could not be continued."""
    data = plain.read_bytes()
    headers = b"".join(data[offset : offset + 12] for offset in record_headers(str(plain))[0])
    expected = {"records": 7, "bytes": len(data), "headers": hashlib.sha256(headers).hexdigest()[:16]}
    assert Reader(plain, 32).fingerprint == expected


# --- shards


@pytest.fixture
def three(plain, tmp_path) -> str:
    """`plain` in shards of 3, 2 and 2 records."""
    return divide(plain, tmp_path / "y.tfrecords", 3, 2, 2)


def shard(three: str, number: int) -> Path:
    return Path(shards.find(three)[number])


@pytest.fixture(scope="module")
def batches(records) -> np.ndarray:
    """Four batches of six rows of `records`, named X, from step 2 on."""
    return take(Reader(records, 32, batch_size=6, name="X").feed(2), 4)


@pytest.mark.parametrize("counts", [(2, 2, 1), (1, 1, 1, 1, 1)])
def test_shards_give_the_batches_of_one_file_bit_for_bit(records, batches, tmp_path, counts):
    spec = divide(records, tmp_path / "x.tfrecords", *counts)
    X = Reader(spec, 32, batch_size=6, name="X")
    assert len(X) == len(SIZES) and [shard.records for shard in X.shards] == [*counts]
    assert np.array_equal(take(X.feed(2), 4), batches)
    for data in (str(tmp_path / "x-*.tfrecords"), shards.find(spec), [Path(file) for file in shards.find(spec)]):
        assert Reader(data, 32).shards == X.shards
    once = [np.concatenate(list(Reader(data, 32, training=False).feed().as_numpy_iterator())) for data in (records, spec)]
    assert np.array_equal(*once)


def test_the_fingerprint_covers_all_shards_and_no_folder(plain, three, tmp_path):
    one, many = Reader(plain, 32).fingerprint, Reader(three, 32).fingerprint
    parts = many.pop("shards")
    assert many == one
    assert [part["records"] for part in parts] == [3, 2, 2] and parts == [Reader(file, 32).fingerprint for file in shards.find(three)]
    (tmp_path / "moved").mkdir()
    moved = divide(plain, tmp_path / "moved" / "z", 3, 2, 2)
    assert Reader(moved, 32).fingerprint == many | {"shards": parts}
    assert Reader(list(reversed(shards.find(three))), 32).fingerprint != many | {"shards": parts}


def test_messages_call_the_data_as_typed(three, tmp_path):
    assert Reader(three, 32).file == three
    assert Reader(str(tmp_path / "y-*"), 32).file == str(tmp_path / "y-*")
    assert Reader(shards.find(three), 32).file == f"{tmp_path}/y-00000-of-00003.tfrecords and 2 more"


def test_a_bad_record_is_named_with_its_shard_and_its_number_in_there(three):
    damage(shard(three, 0), 1)
    damage(shard(three, 2), 0, 1)
    with pytest.raises(InputError, match=f"^{shard(three, 2)}: damaged in record 0"):
        Reader(three, 32)
    X = Reader(three, 32, batch_size=7, skip_bad_records=True)
    assert list(X.bad) == [5]
    X.skip_bad_records = False
    with pytest.raises(BadRecord) as error:
        pairs_order(X, 0, 1)
    what = "(counted from 0): damaged or cut off"
    assert str(error.value).startswith(f"{shard(three, 0)}: record 1 {what}; {shard(three, 2)}: record 1 {what}; make it anew")


def test_a_bad_record_has_its_stand_in_in_another_shard(intact, three):
    damage(shard(three, 0), 2)
    damage(shard(three, 1), 0)
    damage(shard(three, 2), 1)
    X = Reader(three, 32, batch_size=7, skip_bad_records=True)
    assert pairs_order(X, 0, 4) == [STAND_INS.get(number, number) for number in intact]
    assert sorted(X.bad) == [2, 3, 6]


def test_a_shard_that_is_cut_off_leaves_the_numbers_of_the_others_as_they_are(intact, three):
    cut = shard(three, 0)
    cut.write_bytes(cut.read_bytes()[:-30])
    damage(shard(three, 2), 0)
    with pytest.raises(InputError, match=f"^{cut}: damaged or cut off in record 2"):
        Reader(three, 32)
    X = Reader(three, 32, batch_size=7, skip_bad_records=True)
    assert (len(X), X.cut_off, list(X.bad)) == (6, True, [4])
    X.expect(3, 2, 2)
    assert (len(X), sorted(X.bad)) == (7, [2, 5])
    assert X.place(5) == (str(shard(three, 2)), 0)
    assert pairs_order(X, 0, 4) == [{2: 3, 5: 6}.get(number, number) for number in intact]


def test_every_shard_is_looked_into_at_the_door(three):
    with tf.io.TFRecordWriter(str(shard(three, 1))) as writer:
        writer.write(FOREIGN["other features"])
    with pytest.raises(InputError, match=f"^{shard(three, 1)}: record 0 has no image/file_name"):
        Reader(three, 32)


def test_a_shard_that_vanishes_is_named(three):
    X, gone = Reader(three, 32, batch_size=7, skip_bad_records=True), shard(three, 1)
    gone.unlink()
    with pytest.raises(BadRecord, match=f"^{gone}: can no longer be read; bring it back"):
        pairs_order(X, 0, 1)


def test_a_file_elsewhere_is_read_as_one_on_the_disk(plain):
    elsewhere = "ram://a_file_elsewhere.tfrecords"
    tf.io.gfile.copy(str(plain), elsewhere, overwrite=True)
    for here, there in zip(record_headers(str(plain)), record_headers(elsewhere), strict=True):
        assert np.array_equal(here, there)
    assert np.array_equal(take(Reader(elsewhere, 32).feed(), 7), take(Reader(plain, 32).feed(), 7))


def test_headers_are_checked_block_by_block(plain, tmp_path, monkeypatch):
    expected = record_headers(str(plain))
    for size in (1, 2, 7):
        monkeypatch.setattr(records_module, "_BLOCK", size)
        assert all(np.array_equal(*pair) for pair in zip(expected, record_headers(str(plain)), strict=True))
        spoil(plain, tmp_path / "spoilt", "a later header")
        with pytest.raises(InputError, match="in record 2"):
            record_headers(str(tmp_path / "spoilt"))


# --- rows of a batch


@pytest.mark.parametrize("counts", [(1, 5), (2, 1, 3)])
def test_the_rows_of_all_workers_are_the_whole_batch_bit_for_bit(records, batches, counts):
    """Five records in batches of six: a row is in one epoch in one step and in another in the next."""
    firsts = [sum(counts[:i]) for i in range(len(counts))]
    parts = [Reader(records, 32, batch_size=6, name="X", rows=rows).feed(2) for rows in zip(firsts, counts, strict=True)]
    together = [np.concatenate(step) for step in zip(*(part.take(4).as_numpy_iterator() for part in parts), strict=True)]
    assert np.array_equal(np.concatenate(together), batches)


def test_a_worker_looks_at_the_records_of_its_own_rows(rotten):
    whole = Reader(rotten, 32, batch_size=7).bad_records(3)
    parts = [Reader(rotten, 32, batch_size=7, rows=rows).bad_records(3) for rows in ((0, 2), (2, 5))]
    assert parts[0] | parts[1] == whole and len(parts[0]) + len(parts[1]) == len(whole) > max(map(len, parts))


@pytest.mark.parametrize("rows", [(0, 0), (-1, 2), (3, 2), (0, 5)])
def test_rows_lie_in_the_batch(plain, rows):
    with pytest.raises(ValueError, match="not within a batch of 4"):
        Reader(plain, 32, batch_size=4, rows=rows)


def test_evaluation_has_no_rows(plain):
    with pytest.raises(ValueError, match="leave rows out"):
        Reader(plain, 32, batch_size=4, rows=(0, 2), training=False)


# --- a share of the shards


def test_each_worker_reads_the_records_of_its_own_shards_and_needs_no_others(plain, tmp_path):
    """Seven records in three shards; the second worker has but one of these, on a disk of its own."""
    spec = divide(plain, tmp_path / "x", 3, 2, 2)
    first = Reader(spec, 32, batch_size=1, share=(0, 2))
    (tmp_path / "x-00000-of-00003").rename(tmp_path / "elsewhere")
    second = Reader(spec, 32, batch_size=1, share=(1, 2))
    (tmp_path / "elsewhere").rename(tmp_path / "x-00000-of-00003")
    assert (len(first), len(second)) == (5, 2)
    assert sorted(order(first, 0, 5)) == [0, 1, 2, 5, 6]
    assert sorted(order(second, 0, 2)) == [3, 4]


def test_workers_with_as_many_records_do_not_pass_them_in_the_same_order(tmp_path):
    spec = divide(write_records(tmp_path / "all", [draw(i, 32, 32) for i in range(20)]), tmp_path / "x", 10, 10)
    orders = [
        [int(reader._index(tf.constant(row, tf.int64))) for row in range(10)] for reader in (Reader(spec, 32, share=(i, 2)) for i in (0, 1))
    ]
    assert sorted(orders[0]) == sorted(orders[1]) != orders[0] != orders[1]


@pytest.mark.parametrize(
    ("data", "share", "words"),
    [("x", (0, 2), "which FILE@N names"), ("x-*", (0, 2), "which FILE@N names"), ("x@2", (0, 3), "too few shards for 3 workers")],
)
def test_what_cannot_be_shared_is_refused(plain, tmp_path, data, share, words):
    divide(plain, tmp_path / "x", 3, 4)
    with pytest.raises(InputError, match=f"{re.escape(data)}: .*{words}"):
        Reader(f"{tmp_path}/{data}", 32, share=share)


# --- pairs

COUNT = 7


def both(folder: Path, *counts: int, X: bytes = b"a set", Y: bytes = b"a set") -> tuple[str, str]:
    """Two files, or sets of shards, of so many pairs in all. A pair's pictures have its number in blue, and are each other's negatives."""
    row, column = np.mgrid[0:40, 0:40] * 6
    shown = [np.uint8(np.dstack([column, row, np.full_like(row, 30 * i)])) for i in range(sum(counts) if counts else COUNT)]
    files = [folder / "x.tfrecords", folder / "y.tfrecords"]
    for file, pictures, digest in zip(files, (shown, [255 - picture for picture in shown]), (X, Y), strict=True):
        write_records(file, pictures, digest)
    return tuple(divide(file, file.with_name(f"of_{file.name}"), *counts) if counts else str(file) for file in files)


def opened(files: tuple[str, str], **options) -> tuple[Reader, Reader]:
    readers = [Reader(file, 32, 40, name=name, paired=True, **options) for name, file in zip("XY", files, strict=True)]
    match(*readers)
    return readers


def partners(X: Reader, Y: Reader, first: int, steps: int) -> list[int]:
    """The numbers of the pairs that the rows of these steps get. All are whole pairs, of one crop and one flip."""
    batches = [(x.numpy(), y.numpy()) for x, y in itertools.islice(feed_pairs(X, Y, first), steps)]
    x, y = (np.concatenate(rows) for rows in zip(*batches, strict=True))
    assert np.allclose(x, -y, atol=1e-6)
    return [round((row[0, 0, 2] + 1) * 127.5 / 30) for row in x]


@pytest.fixture(scope="module")
def paired_order(tmp_path_factory) -> list[int]:
    return partners(*opened(both(tmp_path_factory.mktemp("pairs")), batch_size=2), 0, 14)


def test_both_pictures_of_a_pair_are_fed_together_with_one_crop_and_one_flip(paired_order, tmp_path):
    epochs = [tuple(paired_order[i : i + COUNT]) for i in range(0, len(paired_order), COUNT)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs) and len(set(epochs)) == len(epochs)
    X, Y = opened(both(tmp_path))
    assert len({row[0, 0, :2].tobytes() for row in take(X.feed(), 20)}) > 10  # there are many crops and flips
    with pytest.raises(AssertionError):
        partners(*(Reader(reader.file, 32, 40, name=reader.name) for reader in (X, Y)), 0, 2)


def test_pairs_in_shards_are_fed_as_those_of_one_file(paired_order, tmp_path):
    X, Y = both(tmp_path, 3, 2, 2)
    for files in ((X, Y), (X, str(tmp_path / "y.tfrecords"))):
        assert partners(*opened(files, batch_size=2), 3, 11) == paired_order[6:]


def test_each_worker_has_its_rows_of_the_pairs(paired_order, tmp_path):
    files = both(tmp_path)
    rows = [partners(*opened(files, batch_size=2, rows=(worker, 1)), 0, 14) for worker in range(2)]
    assert [number for step in zip(*rows, strict=True) for number in step] == paired_order


def test_each_worker_reads_pairs_from_its_own_shards(tmp_path):
    X, Y = both(tmp_path, 2, 2, 2, 1)
    assert sorted(partners(*opened((X, Y), share=(1, 2)), 0, 3)) == [2, 3, 6]
    other = divide(tmp_path / "y.tfrecords", tmp_path / "z.tfrecords", 1, 2, 2, 2)
    for files in ((X, other), (other, X)):
        with pytest.raises(InputError, match="not the same pairs in the same shards, as --shard_data needs it; make both with one call"):
            opened(files, share=(0, 2))


@pytest.mark.parametrize(
    ("X", "Y", "words"),
    [
        (b"", b"", r"x\.tfrecords: its pictures are of no pairs; make both files with build_data\.py --paired"),
        (b"a set", b"", r"y\.tfrecords: its pictures are of no pairs"),
        (b"a set", b"another", r"x\.tfrecords, .*y\.tfrecords: are not of the same pairs; make both with one call"),
    ],
)
def test_what_is_not_of_the_same_pairs_is_refused(tmp_path, X, Y, words):
    with pytest.raises(InputError, match=words):
        opened(both(tmp_path, X=X, Y=Y))


def test_every_file_has_to_be_of_the_same_pairs(tmp_path):
    """One set's X and another's Y behind files that match."""
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
        both(folder, X=folder.name.encode(), Y=folder.name.encode())
    X, Y = [[folder / f"{name}.tfrecords" for folder in folders] for name in "xy"]
    opened((X, Y))
    with pytest.raises(InputError, match="c/x.tfrecords, .*b/y.tfrecords: are not of the same pairs"):
        opened((X[::2], Y[:2]))


def test_files_of_unequal_counts_are_refused(tmp_path):
    X, _ = both(tmp_path)
    (tmp_path / "more").mkdir()
    _, Y = both(tmp_path / "more", 4, 4)
    with pytest.raises(InputError, match="are not of the same pairs, but 7 and 8 pictures; make both with one call"):
        opened((X, Y))


def test_a_picture_is_not_its_own_partner(tmp_path):
    X, _ = both(tmp_path)
    with pytest.raises(InputError, match="^--X, --Y: are both .*x.tfrecords; name the file of the partners for one of them"):
        opened((X, X))


def without(pairs: list[int], *bad: int) -> list[int]:
    """What the next good pair has taken the places of."""
    stand_ins = {number: next(n % COUNT for n in range(number, 99) if n % COUNT not in bad) for number in bad}
    return [stand_ins.get(number, number) for number in pairs]


def test_a_record_that_goes_bad_leaves_out_its_partner(paired_order, tmp_path):
    files = both(tmp_path)
    damage(Path(files[0]), 0, 3)
    damage(Path(files[1]), 4)
    X, Y = opened(files, batch_size=2, skip_bad_records=True)
    assert (X.bad, Y.bad) == ({0: "damaged or cut off"}, {0: "its partner cannot be read"})  # at the door
    assert partners(X, Y, 0, 14) == without(paired_order, 0, 3, 4)
    assert X.bad == {0: "damaged or cut off", 3: "damaged or cut off", 4: "its partner cannot be read"}
    assert Y.bad == {0: "its partner cannot be read", 3: "its partner cannot be read", 4: "damaged or cut off"}


def test_a_bad_record_of_a_pair_is_named_if_none_may_be_left_out(tmp_path):
    files = both(tmp_path)
    damage(Path(files[1]), 3)
    with pytest.raises(BadRecord, match=f"{files[1]}: record 3 .*, or add --skip_bad_records"):
        partners(*opened(files, batch_size=COUNT), 0, 1)


def test_a_file_that_is_cut_off_leaves_out_the_partners_of_what_it_lacks(paired_order, tmp_path):
    """Found at the door, at a second start, and while running."""
    files = both(tmp_path)
    running = opened(files, batch_size=2, skip_bad_records=True)
    for file, last in zip(files, (5, 3), strict=True):
        offsets = record_headers(file)[0]
        Path(file).write_bytes(Path(file).read_bytes()[: offsets[last] + 20])
    assert partners(*running, 8, 6) == without(paired_order, 3, 4, 5, 6)[16:]
    X, Y = opened(files, batch_size=2, skip_bad_records=True)
    assert (len(X), len(Y), X.bad, list(Y.bad)) == (5, 5, dict.fromkeys((3, 4), "its partner cannot be read"), [3, 4])
    for reader in (X, Y):  # as one does that continues a run
        reader.expect(COUNT)
    assert partners(X, Y, 2, 12) == without(paired_order, 3, 4, 5, 6)[4:]
    X.expect(5)
    assert len(X) == COUNT


def test_shards_that_are_cut_off_keep_the_pairs_together(paired_order, tmp_path):
    """As many records are missing in both, but not the same ones."""
    files = both(tmp_path, 3, 2, 2)
    for file, number in zip(files, (0, 2), strict=True):
        cut = shard(file, number)
        cut.write_bytes(cut.read_bytes()[:-9])
    assert partners(*opened(files, batch_size=2, skip_bad_records=True), 0, 14) == without(paired_order, 2, 6)
    for other in (
        (str(tmp_path / "x.tfrecords"), files[1]),
        (files[0], divide(tmp_path / "y.tfrecords", tmp_path / "z.tfrecords", 2, 3, 2)),
    ):
        with pytest.raises(InputError, match="are not the same pairs in the same shards, as a file that is cut off needs it"):
            opened(other, skip_bad_records=True)


def test_bad_records_at_the_beginning_of_a_file_do_not_hide_what_it_is_of(tmp_path):
    files = both(tmp_path, Y=b"another")
    damage(Path(files[0]), 0, 1)
    with pytest.raises(InputError, match="are not of the same pairs"):
        opened(files, skip_bad_records=True)
    damage(Path(files[1]), *range(2, COUNT))
    with pytest.raises(InputError, match="no record can be read"):
        opened(files, skip_bad_records=True)
