"""Two folders of pictures become two TFRecord files, whole or not at all."""

import io
import itertools
import os
import re
import resource
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw, snapshot
from photos import DAMAGED, GOOD, LOSSY, ODD, PLAIN, SCENE, SWAPPED_PROFILE, difference, exif, save
from PIL import Image, ImageCms

import build_data
from formats.translation import Job, Translation
from pictures import derive, images, shards
from pictures.records import from_record, to_record


def records(file: Path, pairs: bool = False) -> dict[str, bytes]:
    """The pictures of a TFRecord file by name, in its order. Records of `pairs` say of which."""
    pictures = {}
    for record in tf.data.TFRecordDataset([str(file)]):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        assert set(features) == {"image/file_name", "image/encoded_image"} | ({"image/pairs"} if pairs else set())
        name, data = (features[k].bytes_list.value for k in ("image/file_name", "image/encoded_image"))
        assert len(name) == len(data) == 1
        pictures[name[0].decode()] = data[0]
    return pictures


def decode(data: bytes) -> np.ndarray:
    """What training sees."""
    return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def build(call, tmp_path):
    """`build(X files, Y files, flag, …)` puts the files into X and Y and writes out/x.tfrecords and out/y.tfrecords."""

    def build(X: dict[str, bytes], Y: dict[str, bytes], *flags: object):
        folders = ["--X_input_dir", put(tmp_path / "X", X), "--Y_input_dir", put(tmp_path / "Y", Y)]
        outputs = ["--X_output_file", tmp_path / "out" / "x.tfrecords", "--Y_output_file", tmp_path / "out" / "y.tfrecords"]
        return call(build_data.main, *folders, *outputs, *flags)

    return build


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def pictures(count: int, height: int = 8, width: int = 8) -> dict[str, bytes]:
    return {f"{i}.png": images.encode(draw(i, height, width)) for i in range(count)}


ONE = pictures(1)


def test_plain_pictures_are_stored_as_they_are_and_by_name(build, out):
    X = {f"{name}.{'jpg' if 'JPEG' in name else 'PNG'}": data for name, data in PLAIN.items()}
    Y = {"a/b/c.jpeg": PLAIN["JPEG"], "übung.png": PLAIN["PNG"]}
    outcome = build(X, Y)
    assert (outcome.status, outcome.err) == (0, "")
    assert records(out / "x.tfrecords") == X
    assert records(out / "y.tfrecords") == Y


@pytest.mark.filterwarnings("ignore::UserWarning")  # pytest undoes the filter in images.py
def test_odd_pictures_are_stored_as_plain_ones(build, out):
    assert build({f"{name}.tif": data for name, (data, _, _) in ODD.items()}, ONE).status == 0
    stored = records(out / "x.tfrecords")
    assert len(stored) == len(ODD)
    for name, (original, expected, tolerance) in ODD.items():
        data = stored[f"{name}.tif"]
        assert data.startswith(b"\xff\xd8" if "JPEG" in name or name == "WebP" else b"\x89PNG") and images.is_plain(data), name
        _, alpha = images.decode_with_alpha(original)
        if alpha is None:
            assert difference(decode(data), expected) <= tolerance, name
        else:  # without what is behind it, which no network sees
            seen = alpha[..., np.newaxis] / 255
            assert difference(seen * decode(data) + (1 - seen) * 255, expected) <= tolerance, name


def test_grey_pictures_and_those_of_two_frames_are_stored_as_they_are(build, out):
    X = {f"{name}.jpg": ODD[name][0] for name in GOOD}
    build(X, ONE)
    assert records(out / "x.tfrecords") == X
    for data in X.values():
        assert np.array_equal(from_record(tf.constant(to_record("", data)))[1], images.decode(data))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("JPEG", {"quality": 80, "exif": exif(6)}),
        ("JPEG", {"quality": 90, "icc_profile": SWAPPED_PROFILE}),
        ("WEBP", {"quality": 80}),
        ("AVIF", {"quality": 80}),
        ("WEBP", {"quality": 80, "exif": exif(3), "icc_profile": SWAPPED_PROFILE}),
    ],
)
def test_what_was_compressed_with_loss_stays_a_jpeg_that_looks_the_same(build, out, name, options):
    """At a third of a PNG's size, and of a phone's photo in a fraction of the time."""
    original = save(Image.fromarray(images.resize(SCENE, 400, 560)), name, **options)
    build({"a.jpg": original}, ONE)
    stored, seen = records(out / "x.tfrecords")["a.jpg"], images.decode(original)
    apart = np.abs(decode(stored).astype(int) - seen)
    assert stored.startswith(b"\xff\xd8") and images.is_plain(stored) and apart.mean() < 1.5 and apart.max() < 32
    assert len(stored) < len(images.encode(seen)) / 2
    with Image.open(io.BytesIO(stored)) as picture:
        assert {(layer[1], layer[2]) for layer in picture.layer} == {(1, 1)}  # no colour is halved
    build({}, ONE, "--overwrite", "--max_size", 200)
    smaller = records(out / "x.tfrecords")["a.jpg"]
    assert smaller.startswith(b"\xff\xd8") and min(images.size(smaller)) == 200


def test_a_cutout_is_stored_as_networks_see_it_in_use(build, out):
    """To the bit, at its own size and a smaller one; what is hidden shows nowhere."""
    alpha = np.zeros((60, 80), np.uint8)
    alpha[20:40, 30:60], alpha[20:40, 29] = 255, 90
    colours = np.where(alpha[..., np.newaxis] > 0, np.uint8([60, 20, 10]), np.uint8([0, 255, 0]))
    original = images.encode(colours, alpha=alpha)
    for size in (0, 30):
        assert build({"a.png": original}, ONE, "--max_size", size, "--overwrite").status == 0
        stored = decode(records(out / "x.tfrecords")["a.png"])
        assert stored.shape[0] == (size or 60) and (stored == (60, 20, 10)).all()
        (job,) = [Job(out.parent / "X" / "a.png", "a", [])]
        fed, *_ = Translation(SimpleNamespace(image_size=30, checksum="", multiple=1, smallest=1), keep_size=not size, tile=64).read(job)
        assert np.array_equal(stored, fed)


def test_a_picture_that_only_pillow_decodes_is_stored_anew(build, out):
    endless = PLAIN["PNG"][:-12]  # without its last chunk
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(endless)
    assert build({"a.png": endless}, ONE).status == 0
    assert np.array_equal(decode(records(out / "x.tfrecords")["a.png"]), SCENE)


def test_a_jpeg_without_its_end_is_stored_with_one(build, out):
    """As a PNG it would take seven times the space."""
    outcome = build({"a.jpg": PLAIN["JPEG"][:-2], "b.jpg": PLAIN["JPEG progressive"][:-1]}, ONE, "--strict")
    assert (outcome.status, outcome.err) == (0, "")
    assert records(out / "x.tfrecords") == {"a.jpg": PLAIN["JPEG"], "b.jpg": PLAIN["JPEG progressive"]}


def test_a_profile_that_is_only_called_srgb_is_converted(build, out):
    linear = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ")
    data = save(Image.fromarray(SCENE), "PNG", icc_profile=linear.replace(b"tXYZ", b"gXYZ"))  # red is green, and green red
    build({"a.png": data}, ONE)
    assert difference(decode(records(out / "x.tfrecords")["a.png"]), SCENE[..., [1, 0, 2]]) <= 1


def test_damage_that_does_not_keep_a_jpeg_from_being_decoded_is_named(build, out, tmp_path, monkeypatch):
    pixels = draw(6, 96, 96) // 2 + 40
    pixels[32:48, 48:] += 20
    pixels[48:] += 20  # from one block on, as after an error that no decoder notices
    X = {"a.jpg": save(Image.fromarray(pixels), "JPEG", quality=95), "b.jpg": PLAIN["JPEG"]}
    outcome = build(X, ONE)
    words = f"{tmp_path / 'X' / 'a.jpg'}: from row 32, column 48 on it is of another brightness"
    assert (outcome.status, outcome.err) == (0, f"damaged, but taken: {words}\n")
    assert records(out / "x.tfrecords") == X and "2 pictures, 0 left out" in outcome.out
    build(X, ONE, "--overwrite", "--strict").assert_refused(f"{words}; remove it, or leave out --strict")

    spoken = tf.io.decode_jpeg
    monkeypatch.setattr(tf.io, "decode_jpeg", lambda *a, **k: (os.write(2, b"Corrupt JPEG data: premature end\n"), spoken(*a, **k))[1])
    outcome = build({"b.jpg": PLAIN["JPEG"]}, ONE, "--overwrite", "--X_input_dir", put(tmp_path / "Z", {"b.jpg": PLAIN["JPEG"]}))
    assert outcome.err == f"damaged, but taken: {tmp_path / 'Z' / 'b.jpg'}: premature end\n"
    stored = records(out / "x.tfrecords")["b.jpg"]  # anew, so that training prints nothing
    assert stored != PLAIN["JPEG"] and difference(images.decode(stored), images.decode(PLAIN["JPEG"])) < LOSSY


def test_every_suffix_is_taken(build, out):
    names = {"jpg": "JPEG", "JPEG": "JPEG", "png": "PNG", "Bmp": "BMP", "webp": "WebP", "gif": "GIF", "tif": "TIFF", "TIFF": "TIFF"}
    X = {f"picture.{suffix}": PLAIN.get(kind) or ODD[kind][0] for suffix, kind in names.items()}
    build({**X, "notes.txt": b"not a picture"}, ONE)
    assert set(records(out / "x.tfrecords")) == set(X)


def test_equal_folders_give_equal_files(build, out, monkeypatch):
    X, Y = {**pictures(9), **{f"{folder}/1.png": PLAIN["PNG"] for folder in "abc"}}, {"1.bmp": ODD["BMP"][0], **pictures(3)}
    build(X, Y)
    first = snapshot(out)

    def backwards(*args, **kwargs):
        for root, folders, names in walk(*args, **kwargs):
            folders.sort(reverse=True)
            yield root, folders, sorted(names, reverse=True)

    walk = os.walk
    monkeypatch.setattr(os, "walk", backwards)
    assert build(X, Y, "--overwrite").status == 0
    assert snapshot(out) == first

    order = list(records(out / "x.tfrecords"))
    assert order != sorted(order)  # a start of the file is not a start of the folder
    assert build(pictures(9), Y, "--overwrite", "--X_input_dir", put(out.parent / "nine", pictures(9))).status == 0
    assert [int(name[0]) for name in records(out / "x.tfrecords")] == [2, 1, 5, 0, 4, 8, 6, 7, 3]  # in every version


@pytest.mark.parametrize(
    "max_size, shapes", [(0, [(8, 8), (30, 50), (50, 30)]), (30, [(8, 8), (30, 50), (50, 30)]), (9, [(8, 8), (9, 15), (15, 9)])]
)
def test_max_size_shrinks_what_is_larger(build, out, max_size, shapes):
    X = {
        "a.png": images.encode(draw(0, 8, 8)),
        "b.png": save(Image.fromarray(draw(1, 30, 50)), "PNG", compress_level=1),
        "c.bmp": images.encode(draw(2, 50, 30)),
    }
    build(X, ONE, "--max_size", max_size)
    stored = records(out / "x.tfrecords")
    assert [decode(stored[name]).shape[:2] for name in sorted(stored)] == shapes
    assert [stored[name] == X[name] for name in ("a.png", "b.png")] == [True, max_size != 9]
    assert difference(decode(stored["b.png"]), images.resize(draw(1, 30, 50), *shapes[1])) == 0


def test_unreadable_pictures_are_named_and_left_out(build, out, tmp_path):
    (tmp_path / "Y").mkdir()
    (tmp_path / "Y" / "broken link.png").symlink_to("nowhere")
    outcome = build({**pictures(2), **{f"{name}.jpg": data for name, data in DAMAGED.items()}}, ONE)
    assert outcome.status == 0
    lines = outcome.err.splitlines()
    assert len(lines) == len(DAMAGED) + 1
    for file in [*(tmp_path / "X" / f"{name}.jpg" for name in DAMAGED), tmp_path / "Y" / "broken link.png"]:
        line = next(line for line in lines if line.startswith(f"left out: {file}: "))
        assert not line.endswith((": ", "None"))
    assert f"2 pictures, {len(DAMAGED)} left out" in outcome.out and "1 pictures, 1 left out" in outcome.out
    assert set(records(out / "x.tfrecords")) == {"0.png", "1.png"}


def test_the_summary_counts_pictures_and_bytes(build, out):
    outcome = build(pictures(3), pictures(2))
    for line, name, count in zip(outcome.out.splitlines(), "xy", (3, 2), strict=True):
        file = out / f"{name}.tfrecords"
        assert line.startswith(f"{file}: {count} pictures, 0 left out, {file.stat().st_size:,} bytes, ") and line.endswith(" s")


def test_costs_are_said_after_the_first_pictures_with_what_makes_them_smaller(build, out, monkeypatch):
    """Both domains count."""
    now = itertools.count(0, 0.5)  # as if each look at the clock took half a second, of which there are two for a picture
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    monkeypatch.setattr(build_data, "SMALLER", 7)
    X, Y = {f"{i}.png": ONE["0.png"] for i in range(30)}, {f"{i}.png": ONE["0.png"] for i in range(50)}
    outcome = build(X, Y)
    words = f"{out / 'x.tfrecords'} and {out / 'y.tfrecords'}: 80 pictures will take about 0 MB and 1 min"
    assert [line for line in outcome.err.splitlines() if "will take" in line] == [f"{words}; --max_size 7 makes it smaller and faster"]
    assert words + "\n" in build(X, Y, "--overwrite", "--max_size", 9).err
    monkeypatch.setattr(build_data, "SMALLER", 8)  # as small as they are
    assert words + "\n" in build(X, Y, "--overwrite").err


BAD = {"bad.png": DAMAGED["text"]}


@pytest.mark.parametrize(
    "X, Y, flags, words",
    [
        ({**ONE, **BAD}, ONE, ["--strict"], ["X/bad.png", "not a picture", "--strict"]),
        (ONE, {**ONE, **BAD}, ["--strict"], ["Y/bad.png", "--strict"]),
        ({**ONE, **BAD}, {**BAD, "cut.jpg": DAMAGED["cut JPEG"]}, [], ["Y: none of its 2 pictures can be read"]),
        ({"a.txt": b""}, ONE, [], ["X: no picture", ".png"]),
        (ONE, {}, [], ["Y: no such folder"]),
        (ONE, ONE, ["--max_size", "-1"], ["--max_size", "-1", "at least 0"]),
        (ONE, ONE, ["--max_size", "big"], ["--max_size", "big"]),
        (ONE, ONE, ["--max", "9"], ["--max"]),
    ],
)
def test_wrong_input_is_refused_and_leaves_nothing(build, tmp_path, X, Y, flags, words):
    outcome = build(X, Y, *flags)
    outcome.assert_refused(*words)
    assert outcome.out == ""
    assert {path.name for path in tmp_path.iterdir()} <= {"X", "Y"}


def test_a_folder_that_cannot_be_read_is_named(build, tmp_path, out, forbid):
    X = {**pictures(2), "secret/9.png": ONE["0.png"]}
    forbid(tmp_path / "X" / "secret")
    problem = f"{tmp_path / 'X' / 'secret'}: a folder that cannot be read (Permission denied)"
    build(X, ONE, "--strict").assert_refused(f"{problem}; get the right to read it, or leave out --strict")
    assert not out.exists()
    outcome = build(X, ONE)
    assert (outcome.status, outcome.err) == (0, f"left out: {problem}\n")
    assert set(records(out / "x.tfrecords")) == {"0.png", "1.png"}


def test_outputs_that_exist_are_replaced_only_on_demand_and_only_by_whole_ones(build, out):
    put(out, {"y.tfrecords": b"old"})
    build(ONE, ONE).assert_refused("--Y_output_file", str(out / "y.tfrecords"), "--overwrite")
    assert snapshot(out) == {"y.tfrecords": b"old"}
    build({**ONE, **BAD}, ONE, "--overwrite", "--strict").assert_refused("bad.png")
    assert snapshot(out) == {"y.tfrecords": b"old"}
    assert build(ONE, ONE, "--overwrite").status == 0
    assert records(out / "x.tfrecords") == records(out / "y.tfrecords") == ONE


@pytest.mark.parametrize("name", ["X/0.png", "out/new.JPG"])
@pytest.mark.parametrize("flags", [[], ["--num_shards", 2]])
def test_no_output_has_the_name_of_a_picture(build, tmp_path, name, flags):
    """Which would be replaced, or taken for one by the next run."""
    X = pictures(2)
    build(X, X, "--X_output_file", tmp_path / name, "--overwrite", *flags).assert_refused(f"{name}: has the suffix of a picture")
    assert snapshot(tmp_path / "X") == X


def test_what_is_no_file_is_named_and_left_out(build, out, tmp_path):
    """Who opens a pipe that has no writer waits for ever."""
    (tmp_path / "X").mkdir()
    os.mkfifo(tmp_path / "X" / "pipe.png")
    (tmp_path / "X" / "zero.png").symlink_to("/dev/zero")
    outcome = build(ONE, ONE)
    assert outcome.status == 0 and "1 pictures, 2 left out" in outcome.out
    lines = [f"left out: {tmp_path}/X/{name}.png: is a pipe or a device; save it as a file first" for name in ("pipe", "zero")]
    assert sorted(outcome.err.splitlines()) == lines
    os.mkfifo(out / "pipe")
    build({}, {}, "--X_output_file", out / "pipe", "--overwrite").assert_refused("pipe: is a pipe or a device; name a file")
    build({}, {}, "--X_input_dir", out / "pipe", "--overwrite").assert_refused("pipe: is no folder; name one")


def test_what_is_too_large_for_a_picture_is_not_read(build, out, tmp_path):
    """A video of 10 GB by a picture's name would take all memory."""
    (tmp_path / "X").mkdir()
    with open(tmp_path / "X" / "x.jpg", "wb") as file:
        file.truncate(10**10)
    outcome = build(ONE, ONE)
    words = "x.jpg: 10.0 GB, more than a picture of 100 megapixels needs; take it out\n"
    assert outcome.status == 0 and outcome.err == f"left out: {tmp_path}/X/{words}"


def test_pictures_of_other_formats_are_told_of(build, out):
    outcome = build({"a.avif": PLAIN["PNG"], "b.svg": b"<svg/>", "c/d.NEF": b""}, {"e.jpe": PLAIN["JPEG"]})
    assert outcome.status == 0 and outcome.err.count("\n") == 1
    assert "X/b.svg and 1 more, of formats that are not read (1 .nef, 1 .svg): convert to .jpg or .png" in outcome.err
    assert set(records(out / "x.tfrecords")) == {"a.avif"} and set(records(out / "y.tfrecords")) == {"e.jpe"}


@pytest.mark.parametrize("Y_output, words", [("out/../out/x.tfrecords", "same file"), ("X", "is a folder")])
def test_outputs_must_be_two_files(build, out, tmp_path, Y_output, words):
    build(ONE, ONE, "--Y_output_file", tmp_path / Y_output).assert_refused("--Y_output_file", words)
    assert not out.exists()


def test_a_full_disk_stops_the_command_and_leaves_nothing(build, out):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    X = pictures(4, 90, 90)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sum(map(len, X.values())) // 2, limits[1]))
    try:
        outcome = build(X, ONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1 and "File too large" in outcome.err
    assert not out.exists()


def test_a_name_need_not_be_utf8(build, out, tmp_path):
    try:
        put(tmp_path / "X", {os.fsdecode(b"\xfcbung.png"): PLAIN["PNG"]})
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    assert build({}, ONE).status == 0
    assert records(out / "x.tfrecords") == {"�bung.png": PLAIN["PNG"]}


def test_defaults_are_the_chapters():
    args = build_data.parse([])
    assert (args.X_input_dir, args.Y_input_dir) == (Path("data/apple2orange/trainA"), Path("data/apple2orange/trainB"))
    assert (args.X_output_file, args.Y_output_file) == (Path("data/tfrecords/apple.tfrecords"), Path("data/tfrecords/orange.tfrecords"))
    assert (args.max_size, args.strict, args.overwrite) == (0, False, False)
    assert args.num_shards == 1


# --- shards


def sharded(out: Path, domain: str, count: int) -> list[dict[str, bytes]]:
    return [records(Path(name)) for name in shards.names(out / f"{domain}.tfrecords", count)]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shards_hold_the_records_of_the_one_file_in_its_order(build, out, count):
    X, Y = pictures(17), pictures(7)
    build(X, Y)
    expected = [list(records(out / f"{domain}.tfrecords").items()) for domain in "xy"]
    for file in out.iterdir():
        file.unlink()
    outcome = build(X, Y, "--num_shards", count)
    assert (outcome.status, outcome.err) == (0, "")
    assert len(snapshot(out)) == 2 * count
    for domain, whole, line in zip("xy", expected, outcome.out.splitlines(), strict=True):
        parts = sharded(out, domain, count)
        assert [item for part in parts for item in part.items()] == whole
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        size = sum(file.stat().st_size for file in out.glob(f"{domain}-*"))
        assert line.startswith(f"{out}/{domain}.tfrecords@{count}: {len(whole)} pictures, 0 left out, {count} shards, {size:,} bytes, ")


def test_shards_are_of_equal_size_whatever_is_left_out_and_equal_for_equal_folders(build, out):
    bad = {f"{i}{i}.png": DAMAGED["text"] for i in range(0, 9, 2)}
    assert build({**pictures(11), **bad}, pictures(3), "--num_shards", 3).status == 0
    assert [len(part) for part in sharded(out, "x", 3)] == [4, 4, 3]
    assert set().union(*sharded(out, "x", 3)) == set(pictures(11))
    first = snapshot(out)
    assert build({}, {}, "--num_shards", 3, "--overwrite").status == 0
    assert snapshot(out) == first


def test_files_are_dealt_out_so_that_shards_hold_runs_of_them():
    assert build_data.deal(list(range(7)), 1) == list(range(7))
    assert build_data.deal(list(range(7)), 3) == [0, 3, 5, 1, 4, 6, 2]
    assert build_data.deal(list(range(3)), 3) == [0, 1, 2]


@pytest.mark.parametrize(
    "X, count, words",
    [
        (pictures(2), 3, ["--num_shards 3", "X; use at most 2"]),
        ({**pictures(2), **BAD}, 3, ["--num_shards 3", "X; use at most 2"]),
        (pictures(2), 0, ["--num_shards", "at least 1"]),
        (pictures(2), 513, ["--num_shards", "from 1 to 512"]),
    ],
)
def test_no_shard_is_empty(build, out, X, count, words):
    build(X, pictures(3), "--num_shards", count).assert_refused(*words)
    assert not out.exists()


def test_too_many_shards_are_refused_before_a_picture_is_read(build, monkeypatch):
    monkeypatch.setattr(images, "content", lambda *_: pytest.fail("read"))
    build(pictures(2), pictures(3), "--num_shards", 3).assert_refused("X; use at most 2")
    build(pictures(3), {}, "--paired", "--num_shards", 4).assert_refused("more than the pairs in", "X; use at most 3")


def test_shards_that_exist_are_replaced_only_on_demand_and_together(build, out):
    put(out, {"y-00001-of-00002.tfrecords": b"old"})
    build(pictures(2), pictures(2), "--num_shards", 2).assert_refused("--Y_output_file", "y-00001-of-00002", "--overwrite")
    build({**pictures(2), **BAD}, pictures(2), "--num_shards", 2, "--overwrite", "--strict").assert_refused("bad.png")
    build(pictures(2), {"1.png": BAD["bad.png"], **ONE}, "--num_shards", 2, "--overwrite").assert_refused("Y; use at most 1")
    assert snapshot(out) == {"y-00001-of-00002.tfrecords": b"old"}
    assert build(pictures(2), pictures(2), "--num_shards", 2, "--overwrite").status == 0
    assert [len(part) for domain in "xy" for part in sharded(out, domain, 2)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "old, count",
    [
        ("x-00000-of-00004.tfrecords", 1),
        ("x-00000-of-00004.tfrecords", 2),
        ("x-00000-of-00001.tfrecords", 2),
        ("x.tfrecords", 2),
    ],
)
def test_what_a_pattern_would_mix_up_must_go_first(build, out, old, count):
    put(out, {old: b"old"})
    for flags in ([], ["--overwrite"]):
        build(pictures(2), pictures(2), "--num_shards", count, *flags).assert_refused("--X_output_file", str(out / old), "remove that")
    assert snapshot(out) == {old: b"old"}
    (out / old).rename(out / f"a{old}")
    assert build(pictures(2), pictures(2), "--num_shards", count).status == 0


def test_a_folder_is_no_place_for_shards(build, out, tmp_path):
    build(pictures(2), pictures(2), "--num_shards", 2, "--X_output_file", tmp_path / "Y").assert_refused("Y: is a folder; name a file")
    assert not out.exists()


# --- pairs

NO_PICTURE = "not a picture of a format that is read"


def digests(file: Path) -> set[bytes]:
    found = (tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset([str(file)]))
    return {example.features.feature["image/pairs"].bytes_list.value[0] for example in found}


def paired(count: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
    X = {f"sub/{i}_A.png": images.encode(draw(i, 8, 9)) for i in range(count)}
    return X, {f"sub/{i}_B.png": images.encode(draw(50 + i, 8, 9)) for i in range(count)}


def test_records_of_one_number_are_a_pair(build, out):
    X, Y = paired(9)
    outcome = build(X, Y, "--paired")
    assert (outcome.status, outcome.err) == (0, "")
    size = sum(file.stat().st_size for file in out.iterdir())
    assert outcome.out.startswith(f"{out}/x.tfrecords and {out}/y.tfrecords: 9 pairs, 0 left out, {size:,} bytes, ")
    x, y = (records(out / f"{domain}.tfrecords", pairs=True) for domain in "xy")
    assert (x, y) == (X, Y) and [name.replace("A", "B") for name in x] == list(y) != sorted(y)
    assert digests(out / "x.tfrecords") == digests(out / "y.tfrecords") and len(*digests(out / "x.tfrecords")) == 32


@pytest.mark.parametrize("count", [2, 4])
def test_pairs_lie_in_shards_in_their_order(build, out, count):
    X, Y = paired(9)
    build(X, Y, "--paired")
    whole = [list(records(out / f"{domain}.tfrecords", pairs=True).items()) for domain in "xy"]
    for file in out.iterdir():
        file.unlink()
    assert f"9 pairs, 0 left out, {count} shards, " in build({}, {}, "--paired", "--num_shards", count).out
    for domain, expected in zip("xy", whole, strict=True):
        parts = [records(Path(name), pairs=True) for name in shards.names(out / f"{domain}.tfrecords", count)]
        assert [item for part in parts for item in part.items()] == expected
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_pairs_that_are_left_out_get_no_turn_in_either_set_of_shards(build, out):
    X, Y = paired(9)
    bad = ({f"{i}bad.png": DAMAGED["text"] if i % 2 == odd else ONE["0.png"] for i in range(6)} for odd in (0, 1))
    assert "9 pairs, 6 left out, 3 shards" in build(X | next(bad), Y | next(bad), "--paired", "--num_shards", 3).out
    x, y = ([list(records(Path(name), pairs=True)) for name in shards.names(out / f"{d}.tfrecords", 3)] for d in "xy")
    assert list(map(len, x)) == [3, 3, 3] and [[name.replace("A", "B") for name in part] for part in x] == y


def test_the_digest_is_of_names_and_contents_and_of_how_they_are_stored(build, out, tmp_path):
    X, Y = paired(3)

    def digest(Y: dict[str, bytes], *flags: object) -> bytes:
        assert build({}, {}, "--paired", "--overwrite", "--Y_input_dir", put(tmp_path / str(len(seen)), Y), *flags).status == 0
        (found,) = digests(max(out.glob("x*"), key=lambda file: file.stat().st_mtime_ns))
        seen.append(found)
        return found

    put(tmp_path / "X", X)
    seen: list[bytes] = []
    first, *names = Y
    assert digest(Y) == digest(dict(reversed(Y.items())))
    digest({**Y, first: images.encode(draw(60, 8, 9))})
    digest({**Y, first: Y[names[0]], names[0]: Y[first]})
    digest({name.replace("_B", ""): data for name, data in Y.items()})
    digest(Y, "--max_size", 4)
    digest(Y, "--num_shards", 2, "--X_output_file", out / "x2.tfrecords", "--Y_output_file", out / "y2.tfrecords")
    assert len(set(seen)) == len(seen) - 1


@pytest.mark.parametrize(("bad_X", "bad_Y"), [(True, False), (False, True)])
def test_a_pair_with_a_bad_half_is_left_out_as_one(build, out, tmp_path, bad_X, bad_Y):
    X, Y = paired(3)
    X["bad.png"], Y["bad.png"] = (DAMAGED["text"] if bad else PLAIN["PNG"] for bad in (bad_X, bad_Y))
    file = tmp_path / ("X" if bad_X else "Y") / "bad.png"
    build(X, Y, "--paired", "--strict").assert_refused(f"{file}: not a picture", "--strict")
    assert not out.exists()
    outcome = build({}, {}, "--paired")
    assert outcome.status == 0 and outcome.err.startswith(f"left out with its partner: {file}: ") and outcome.err.count("\n") == 1
    assert "3 pairs, 1 left out" in outcome.out
    assert [len(records(out / f"{domain}.tfrecords", pairs=True)) for domain in "xy"] == [3, 3]


TURNED = save(Image.fromarray(draw(3, 12, 8)), "JPEG", exif=exif(6))


def test_pairs_that_differ_in_size_are_named(build, out, tmp_path):
    """As they are upright."""
    equal = {"turned.jpg": TURNED}, {"turned.png": images.encode(draw(0, 8, 12))}
    X, Y = {**pictures(3, 8, 12), **equal[0]}, {**pictures(3, 8, 12), **equal[1]}
    assert build(X, Y, "--paired").status == 0
    before = snapshot(out)
    Y |= {"1.png": images.encode(draw(0, 8, 13)), "2.png": images.encode(draw(0, 12, 8))}
    words = f"{tmp_path}/X/1.png: is 12×8, and its partner {tmp_path}/Y/1.png is 13×8; make them equal, or take both out (and 1 more)"
    build(X, Y, "--paired", "--overwrite").assert_refused(words)
    assert snapshot(out) == before


@pytest.mark.parametrize(
    ("X", "Y", "words"),
    [
        (pictures(3), pictures(2), ["X: 2 has no partner of its name in", "Y; take out"]),
        (pictures(1), pictures(3), ["Y: 1 has no partner of its name in", "X, nor have 1 more; take out"]),
        ({**ONE, "0.jpg": PLAIN["JPEG"]}, ONE, ["X/0.png: 0.jpg has the same name"]),
        (pictures(2), {**BAD, "more.png": ONE["0.png"]}, ["X: 0 has no partner"]),
        ({"a.png": DAMAGED["text"]}, {"a.png": ONE["0.png"]}, ["none of its 1 pairs can be read (", "X/a.png: not a picture"]),
        (ONE, {}, ["Y: no such folder"]),
    ],
)
def test_what_is_in_no_pair_is_named(build, out, X, Y, words):
    build(X, Y, "--paired").assert_refused(*words)
    assert not out.exists()


def test_names_are_the_same_however_an_accent_is_written(build, out):
    assert build({"caf\u00e9.png": ONE["0.png"]}, {"cafe\u0301.png": ONE["0.png"]}, "--paired").status == 0


def test_what_is_heavy_is_said_of_pairs_too(build, out, monkeypatch):
    now = itertools.count(0, 0.5)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    monkeypatch.setattr(build_data, "SMALLER", 7)
    both = {f"{i}.png": ONE["0.png"] for i in range(60)}
    words = f"{out / 'x.tfrecords'} and {out / 'y.tfrecords'}: 120 pictures will take about 0 MB and . min; --max_size 7 makes"
    assert re.search(words, build(both, both, "--paired").err)


# --- pairs of halves, and pairs of what is made of pictures


@pytest.fixture
def build_one(call, tmp_path, out):
    """`build_one(files, flag, …)` puts the files into one folder, which is given with `flag`; returns the outcome, X's records and Y's."""

    def build_one(files: dict[str, bytes], flag: str, *flags: object):
        x, y = out / "x.tfrecords", out / "y.tfrecords"
        outcome = call(build_data.main, flag, put(tmp_path / "one", files), "--X_output_file", x, "--Y_output_file", y, *flags)
        return outcome, *(records(file, pairs=True) if file.exists() else {} for file in (x, y))

    return build_one


def test_halves_of_a_picture_are_a_pair(build_one, out, tmp_path):
    files = {
        "a.png": images.encode(draw(1, 24, 64)),
        "sub/b.jpg": save(Image.fromarray(draw(2, 24, 64)), "JPEG", quality=90),
        "bad.png": DAMAGED["text"],
    }
    outcome, X, Y = build_one(files, "--AB_input_dir")
    assert (outcome.status, outcome.err) == (0, f"left out: {tmp_path}/one/bad.png: {NO_PICTURE}\n")
    assert outcome.out.startswith(f"{out}/x.tfrecords and {out}/y.tfrecords: 2 pairs, 1 left out, ")
    assert list(X) == list(Y) and set(X) == set(files) - {"bad.png"}
    assert digests(out / "x.tfrecords") == (forwards := digests(out / "y.tfrecords"))
    for name, start, tolerance in (("a.png", b"\x89PNG", 0), ("sub/b.jpg", b"\xff\xd8", LOSSY)):
        whole = images.decode(files[name])
        for stored, half in ((X[name], whole[:, :32]), (Y[name], whole[:, 32:])):
            assert stored.startswith(start) and difference(decode(stored), half) <= tolerance
    _, *swapped = build_one({}, "--AB_input_dir", "--direction", "BtoA", "--overwrite")
    assert swapped == [Y, X] and digests(out / "x.tfrecords") != forwards
    _, X, Y = build_one({}, "--AB_input_dir", "--max_size", 20, "--overwrite")  # of a half's short side
    assert {decode(data).shape for data in [*X.values(), *Y.values()]} == {(20, 27, 3)}


def test_halves_are_of_the_upright_picture_and_hide_what_cannot_be_seen(build_one):
    alpha = np.full((24, 64), 255, np.uint8)
    alpha[:, 40:] = 0
    colours = np.where(alpha[..., np.newaxis] > 0, np.uint8([60, 20, 10]), np.uint8([0, 255, 0]))
    turned = save(Image.fromarray(draw(3, 64, 25)), "JPEG", exif=exif(6))
    _, X, Y = build_one({"a.png": images.encode(colours, alpha=alpha), "b.jpg": turned}, "--AB_input_dir")
    assert (decode(Y["a.png"]) == (60, 20, 10)).all()
    assert difference(np.hstack([decode(X["b.jpg"]), decode(Y["b.jpg"])]), images.decode(turned)) <= LOSSY


def test_a_picture_without_two_equal_halves_is_named(build_one, out, tmp_path):
    odd = {"a.png": images.encode(draw(0, 8, 10)), "b.jpg": save(Image.fromarray(draw(3, 65, 24)), "JPEG", exif=exif(6))}
    outcome, *_ = build_one({**odd, "c.png": images.encode(draw(0, 8, 11))}, "--AB_input_dir")
    outcome.assert_refused(f"{tmp_path}/one/b.jpg: is 65×24, and has no two halves of one width; mend it, or take it out (and 1 more)")
    assert not out.exists()


@pytest.mark.parametrize("kind", derive.KINDS)
def test_what_is_made_of_a_picture_is_its_partner(build_one, kind, tmp_path, call):
    """The same for the records as for test pictures."""
    files = {
        "sub/a.jpg": save(Image.fromarray(draw(2, 40, 60)), "JPEG"),
        "b.png": images.encode(draw(3, 40, 60)),
        "bad.jpg": DAMAGED["text"],
    }
    outcome, X, Y = build_one(files, "--Y_input_dir", "--X_from", kind, "--max_size", 30)
    assert outcome.status == 0 and "2 pairs, 1 left out" in outcome.out
    assert list(X) == list(Y) and set(X) == set(files) - {"bad.jpg"}
    for name, data in X.items():
        assert data.startswith(b"\x89PNG")
        assert np.array_equal(decode(data), derive.KINDS[kind](images.decode(Y[name]), name)) and decode(data).shape == (30, 45, 3)
    flags = ["--Y_input_dir", tmp_path / "one", "--X_from", kind, "--max_size", 30, "--X_output_dir", tmp_path / "made"]
    outcome = call(build_data.main, *flags)
    assert (outcome.status, outcome.out) == (0, f"{tmp_path}/made: 2 pictures, 1 left out\n")
    assert outcome.err == f"left out: {tmp_path}/one/bad.jpg: {NO_PICTURE}\n"
    assert snapshot(tmp_path / "made") == {"sub/a.png": X["sub/a.jpg"], "b.png": X["b.png"]}
    call(build_data.main, *flags).assert_refused(f"--X_output_dir {tmp_path}/made: is not empty; --overwrite replaces")
    call(build_data.main, *flags, "--overwrite", "--strict").assert_refused(f"bad.jpg: {NO_PICTURE}; remove it, or leave out --strict")
    assert call(build_data.main, *flags, "--overwrite").status == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--X_from grey --X_input_dir X", "--X_input_dir X: means nothing beside --X_from grey; leave one out"),
        ("--AB_input_dir Y --X_input_dir X", "--X_input_dir X: means nothing beside --AB_input_dir Y"),
        ("--AB_input_dir Y --Y_input_dir X", "--Y_input_dir X: means nothing beside --AB_input_dir Y"),
        ("--AB_input_dir Y --X_from blank", "--X_from blank: means nothing beside --AB_input_dir Y"),
        ("--direction BtoA --paired", "--direction BtoA: is for --AB_input_dir; of two folders, type each in the other's place"),
        ("--X_output_dir new", "--X_output_dir new: is for what --X_from makes; add that, or leave it out"),
        ("--X_output_dir new --X_from grey --X_output_file x", "--X_output_file x: means nothing beside --X_output_dir new"),
        ("--X_output_dir new --X_from grey --num_shards 1", "--num_shards 1: means nothing beside --X_output_dir new"),
        ("--X_output_dir Y --Y_input_dir Y --X_from grey", "--X_output_dir Y: the same file as --Y_input_dir Y; name another"),
        ("--X_output_dir Y/new --Y_input_dir Y --X_from grey", "--X_output_dir Y/new: inside --Y_input_dir Y; name another"),
        ("--X_output_dir Y/0.png --Y_input_dir X --X_from grey", "--X_output_dir Y/0.png: is a file"),
        ("--X_output_dir new --Y_input_dir twins --X_from grey", "twins/a.png: a.jpg has the same name; remove one of them"),
        ("--paired --X_input_dir X --Y_input_dir ./X", "--Y_input_dir X: the same file as --X_input_dir X; name another"),
        ("--paired --X_input_dir . --Y_input_dir Y", "--Y_input_dir Y: inside --X_input_dir .; name another"),
        ("--X_from colour", "--X_from: invalid choice: 'colour'"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(call, tmp_path, monkeypatch, flags, words):
    put(tmp_path, {"X/0.png": ONE["0.png"], "Y/0.png": ONE["0.png"], "twins/a.jpg": PLAIN["JPEG"], "twins/a.png": ONE["0.png"]})
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    call(build_data.main, *flags.split()).assert_refused(words)
    assert snapshot(tmp_path) == before


def test_a_folder_of_pairs_that_cannot_be_read_is_an_error_if_strict(build, build_one, tmp_path, forbid, out):
    forbid(tmp_path / "one" / "secret")
    outcome, *_ = build_one({"a.png": ONE["0.png"], "secret/b.png": ONE["0.png"]}, "--AB_input_dir", "--strict")
    outcome.assert_refused("secret: a folder that cannot be read", "leave out --strict")
    outcome, X, _ = build_one({}, "--AB_input_dir")
    assert outcome.err.startswith(f"left out: {tmp_path}/one/secret: a folder") and list(X) == ["a.png"]
