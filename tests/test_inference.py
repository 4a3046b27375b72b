"""Pictures in, translated pictures out, and nothing lost on the way."""

import base64
import dataclasses
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw, snapshot
from photos import ALPHA, DAMAGED, ODD, PLAIN, difference, save
from PIL import Image

import inference
from formats import model_files
from formats.translator import Translator
from pictures import cutouts, gallery, images
from system import finding

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model(model_file):
    return model_files.load(model_file)


@pytest.fixture(scope="module")
def expected(model):
    """The model as a function of one picture."""
    return lambda picture: model(picture[np.newaxis])[0]


@pytest.fixture
def infer(call, model, model_file, tmp_path, monkeypatch):
    """`infer(input, output, flag, …)` runs the command in `tmp_path`; its model is loaded once for all tests."""
    load = model_files.load
    monkeypatch.setattr(model_files, "load", lambda file, trust=False: model if file == model_file else load(file, trust))
    monkeypatch.chdir(tmp_path)
    return lambda source, output, *flags: call(inference.main, "--model", model_file, "--input", source, "--output", output, *flags)


@pytest.fixture
def passes(monkeypatch) -> list[np.ndarray]:
    """What models were given."""
    plain, given = Translator.__call__, []
    monkeypatch.setattr(Translator, "__call__", lambda self, pictures, *more: given.append(pictures) or plain(self, pictures, *more))
    return given


def put(folder: Path, *names: str) -> list[np.ndarray]:
    """Writes a picture for each name, and returns them."""
    pictures = [draw(seed, 32, 48) for seed, _ in enumerate(names)]
    for name, picture in zip(names, pictures, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(images.encode(picture))  # by content, whatever the suffix
    return pictures


@pytest.mark.parametrize("name, format", [("out.png", "PNG"), ("new/out.jpg", "JPEG"), ("out.JPEG", "JPEG")])
def test_a_picture_becomes_a_picture(infer, tmp_path, expected, name, format):
    (picture,) = put(tmp_path, "a.png")
    outcome = infer("a.png", name)
    assert (outcome.status, outcome.err) == (0, "")
    assert set(snapshot(tmp_path)) == {"a.png", name}
    written = Image.open(tmp_path / name)
    assert written.format == format
    assert np.array_equal(written, Image.open(io.BytesIO(save(Image.fromarray(expected(picture)), format, quality=95, subsampling=0))))


@pytest.mark.parametrize(
    "height, width, flags, shape",
    [
        (32, 48, [], (32, 48)),
        (64, 72, [], (32, 36)),
        (20, 16, [], (40, 32)),
        (1, 1, [], (32, 32)),
        (64, 72, ["--image_size", 24], (24, 24)),
        (9, 9, ["--image_size", 50], (50, 50)),
    ],
)
def test_sizes(infer, tmp_path, expected, height, width, flags, shape):
    picture = draw(0, height, width)
    images.write(tmp_path / "a.png", picture)
    infer("a.png", "b.png", *flags)
    translated = images.read(tmp_path / "b.png")
    assert translated.shape == (*shape, 3)
    assert np.array_equal(translated, expected(images.resize(picture, *shape)))


def test_a_folder_becomes_a_folder(infer, tmp_path, expected):
    names = ["a.png", "b.jpg", "sub/a.bmp", "sub/deep/C.TIFF", "v1.2.webp"]
    pictures = put(tmp_path / "in", *names)
    outcome = infer("in", "new/out")
    assert (outcome.status, outcome.err) == (0, "")
    assert "new/out: 5 of 5 translated" in outcome.out
    out = tmp_path / "new" / "out"
    assert set(snapshot(out)) == {"a.png", "b.png", "sub/a.png", "sub/deep/C.png", "v1.2.png"}
    for name, picture in zip(names, pictures, strict=True):
        assert np.array_equal(images.read((out / name).with_suffix(".png")), expected(picture)), name


def test_format_is_that_of_a_folders_pictures(infer, tmp_path):
    put(tmp_path / "in", "a.png", "sub/b.jpg")
    infer("in", "out", "--format", "jpg")
    assert set(snapshot(tmp_path / "out")) == {"a.jpg", "sub/b.jpg"}
    assert Image.open(tmp_path / "out" / "a.jpg").format == "JPEG"


def test_a_picture_can_go_into_a_folder(infer, tmp_path):
    put(tmp_path, "a.bmp")
    (tmp_path / "out").mkdir()
    assert infer("a.bmp", "out").status == 0
    assert set(snapshot(tmp_path / "out")) == {"a.png"}


# --- pictures of every kind


@pytest.mark.parametrize("name", ["PNG orientation 6", "PNG alpha", "PNG grey 16 bit", "GIF"])
def test_pictures_of_every_kind_are_translated_as_people_see_them(infer, tmp_path, expected, name):
    """Orientation, alpha and depth are those of the picture as it is seen; tests/formats/test_translation.py has many more."""
    data, scene, _ = ODD[name]
    (tmp_path / "a.png").write_bytes(data)
    outcome = infer("a.png", "b.png", "--keep_size")
    assert (outcome.status, outcome.err) == (0, "")
    translated = Image.open(tmp_path / "b.png")
    if name == "PNG alpha":
        scene, _ = cutouts.resize(*images.decode_with_alpha(data), *scene.shape[:2])
        assert np.array_equal(translated.getchannel("A"), ALPHA)
    assert np.array_equal(translated.convert("RGB"), expected(scene))


@pytest.mark.parametrize("height, width", [(16, 16), (17, 19), (16, 300), (301, 18), (130, 257)])
@pytest.mark.parametrize("tile", [None, 64, 100])
def test_pictures_of_every_size_keep_it_on_demand(infer, tmp_path, expected, height, width, tile):
    images.write(tmp_path / "a.png", draw(0, height, width))
    assert infer("a.png", "b.png", "--keep_size", *(["--tile", tile] if tile else [])).status == 0
    translated, whole = images.read(tmp_path / "b.png"), expected(draw(0, height, width))
    assert translated.shape == whole.shape
    if tile is None or height * width <= tile**2:
        assert np.array_equal(translated, whole)
    else:
        assert 0 < difference(translated, whole) < 12


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tif"])
def test_alpha_is_kept_by_every_format_that_has_it(infer, tmp_path, format):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(ODD["PNG alpha"][0])
    assert infer("in", "out", "--format", format, "--keep_size").status == 0
    translated = Image.open(tmp_path / "out" / f"a.{format}")
    if format == "jpg":
        assert translated.mode == "RGB" and np.asarray(translated)[:, 0].min() > 240  # where nothing was to be seen it is white
    else:
        assert np.array_equal(translated.getchannel("A"), ALPHA)


@pytest.mark.parametrize(("name", "most"), [("b.jpg", 3), ("b.webp", 0)])
def test_colours_are_written_as_finely_as_brightness(infer, tmp_path, monkeypatch, name, most):
    lines = np.zeros((32, 48, 3), np.uint8)
    lines[..., 2] = 255
    lines[:, ::2] = (255, 0, 0)
    images.write(tmp_path / "a.png", lines)
    monkeypatch.setattr(Translator, "__call__", lambda self, pictures, *_: pictures)
    infer("a.png", name)
    assert difference(images.read(tmp_path / name), lines) <= most
    sizes = [(tmp_path / name).stat().st_size]
    for quality in (90, 30):
        assert infer("a.png", name, "--overwrite", "--quality", quality).status == 0
        sizes.append((tmp_path / name).stat().st_size)
    assert sizes == sorted(sizes, reverse=True) or name == "b.webp" and sizes[1] > sizes[2]


@pytest.mark.parametrize(("output", "flags"), [("b.png", []), ("b.tif", []), ("-", []), ("in", ["--format", "tif"])])
def test_a_quality_where_there_is_none_is_refused(infer, tmp_path, output, flags):
    put(tmp_path, "a.png", "in/c.png")
    infer("a.png", output, "--quality", 80, *flags).assert_refused("--quality 80", "leave it out, or write .jpg or .webp")


@pytest.mark.parametrize("flags", [[], ["--keep_metadata"]])
def test_metadata_are_kept_on_demand(infer, tmp_path, flags):
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "a camera", 6
    (tmp_path / "a.jpg").write_bytes(save(Image.fromarray(draw(0, 48, 32)), "JPEG", exif=tags, dpi=(300, 300), xmp=b"<x:xmpmeta/>"))
    assert infer("a.jpg", "b.jpg", *flags).status == 0
    picture = Image.open(tmp_path / "b.jpg")
    assert picture.size == (48, 32)
    found = (dict(picture.getexif()), picture.info.get("dpi"), picture.info.get("xmp"))
    assert found == (({0x010F: "a camera", 0x0112: 1}, (300, 300), b"<x:xmpmeta/>") if flags else ({}, None, None))


def test_a_cutout_is_translated_without_what_it_hides(infer, tmp_path, passes):
    alpha = np.zeros((64, 64), np.uint8)
    alpha[16:48, 16:48] = 255
    colours = np.where(alpha[..., None] > 0, np.uint8((60, 20, 10)), np.uint8(255))
    images.write(tmp_path / "a.png", colours, alpha)
    assert infer("a.png", "b.png").status == 0
    assert passes[0].shape == (1, 32, 32, 3) and (passes[0] == (60, 20, 10)).all()
    assert np.array_equal(images.decode_with_alpha((tmp_path / "b.png").read_bytes())[1], images.resize(alpha, 32, 32))


def test_damage_is_named_and_what_is_whole_is_not(infer, tmp_path):
    pixels = draw(6, 96, 96) // 2 + 40
    pixels[32:48, 48:] += 20
    pixels[48:] += 20  # from one block on, as after an error that no decoder notices
    for name, data in (("a", save(Image.fromarray(pixels), "JPEG", quality=95)), ("b", PLAIN["JPEG"]), ("c", PLAIN["JPEG"][:-2])):
        (tmp_path / f"{name}.jpg").write_bytes(data)
        outcome = infer(f"{name}.jpg", f"{name}.png")
        words = "damaged, but translated: a.jpg: from row 32, column 48 on it is of another brightness\n"
        assert (outcome.status, outcome.err) == (0, words if name == "a" else "")


# --- where they come from, and where they go


def test_a_pipe_is_one_picture_here_too(infer, tmp_path, expected, monkeypatch):
    (picture,) = put(tmp_path, "a.png")
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(images.encode(picture))))
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out))
    outcome = infer("-", "-", "--format", "tif", "--resume")  # what goes through a pipe never exists before
    assert outcome.status == 0 and outcome.err.startswith("-: 1 of 1 translated")
    assert out.getvalue() == images.encode(expected(picture), ".tif")


def test_an_empty_pipe_is_told(infer, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO()))
    infer("-", "b.png").assert_refused("standard input is empty")


def test_nothing_is_written_to_a_terminal(infer, tmp_path, monkeypatch):
    put(tmp_path, "a.png")
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    infer("a.png", "-").assert_refused("--output -: is a terminal; name a file, or redirect it")


def test_a_pattern_finds_pictures_in_folders_and_keeps_these(infer, tmp_path):
    put(tmp_path / "in", "a.png", "b.jpg", "x/1.png", "x/2.gif", "y/1.png", "x/z/1.png")
    assert infer("in/*/*.png", "out").status == 0
    assert set(snapshot(tmp_path / "out")) == {"x/1.png", "y/1.png"}
    put(tmp_path, "[1].png", "1.png")
    assert "[1].png" in infer("[1].png", "c.png").out or (tmp_path / "c.png").is_file()  # a file of that name comes first
    assert (tmp_path / "c.png").is_file()


def test_a_pattern_goes_into_any_folder_and_brackets_can_be_part_of_names(infer, tmp_path):
    put(
        tmp_path,
        "[2024] trip/a.png",
        "[2024] trip/.cache/b.png",
        "[2024] trip/@eaDir/b.png",
        "[2024] trip/x/y/c.png",
        "[2024] trip/x/d [1].png",
        "2/e.png",
    )
    (tmp_path / "[2024] trip" / "x" / "up").symlink_to("..")
    for pattern, names in {
        "[2024] trip/*.png": {"a.png"},
        "[2024] trip/**/*.png": {"a.png", "x/y/c.png", "x/d [1].png"},
        "[2024] trip/**": {"a.png", "x/y/c.png", "x/d [1].png"},
        "**/c.png": {"[2024] trip/x/y/c.png"},
        f"{tmp_path}/[2024] trip/x/**/?.png": {"y/c.png", "up/a.png"},
        "[2024] trip/x/d [1]*.png": {"d [1].png"},
        "[2-4]/*.png": {"2/e.png"},
        f"file://{tmp_path}/%5B2024%5D%20trip/*.png": {"a.png"},
    }.items():
        assert infer(pattern, "out", "--overwrite").status == 0, pattern
        assert set(snapshot(tmp_path / "out")) == names, pattern
        shutil.rmtree(tmp_path / "out")


def test_a_pattern_tells_of_the_folders_that_it_passes_over(infer, tmp_path, forbid):
    put(tmp_path / "in", "x/a.png", "@eaDir/a.png", "@eaDir/b.png", "secret/c.png")
    forbid(tmp_path / "in" / "secret")
    machines = "in/@eaDir, a folder of thumbnails, deleted files and the like, with 2 pictures: rename what you want to have taken"
    secret = "in/secret: a folder that cannot be read (Permission denied)"
    outcome = infer("in/*/*.png", "out")
    assert (outcome.status, outcome.err) == (1, f"left out: {machines}\nleft out: {secret}\n")
    assert set(snapshot(tmp_path / "out")) == {"x/a.png"}
    infer("in/*/b.png", "new").assert_refused(f"--input in/*/b.png: no file is called like that; {machines}")
    infer("in/s*/*.png", "new").assert_refused(f"--input in/s*/*.png: no file is called like that; {secret}")
    infer("in/*", "new").assert_refused("--input in/*: only folders are called like that; add /*.jpg, say")
    infer("*/../in/x/*.png", "new").assert_refused("--input */../in/x/*.png: goes up (..) behind a wildcard; name the folder")


def test_a_new_folder_is_typed_with_a_slash(infer, tmp_path):
    put(tmp_path, "a.png")
    infer("a.png", "new").assert_refused("--output new: write to one of .png", "or to a folder, new/")
    assert infer("a.png", "new/folder/").status == 0
    assert set(snapshot(tmp_path / "new")) == {"folder/a.png"}
    infer("a.png", "b.png", "--gallery", "page.html/").assert_refused("--gallery: page.html/ ends in a slash, as folders do: name a file")


def test_names_that_a_shell_put_in_the_place_of_a_pattern_are_told(infer, tmp_path):
    put(tmp_path, "a.png", "b.png", "c.png")
    words = "--input: takes one value; 'b.png' and 1 more left over: a pattern, or a name with spaces, is typed in quotes, '*.png'"
    infer("a.png", "out", "--input", "a.png", "b.png", "c.png").assert_refused(words)


@pytest.mark.long
def test_a_pipe_is_a_picture(infer, tmp_path, model_file, expected):
    (picture,) = put(tmp_path, "a.png")
    command = [sys.executable, ROOT / "inference.py", "--model", model_file, "--input", "-", "--output", "-", "--format", "tif"]
    done = subprocess.run(command, input=images.encode(picture), capture_output=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1) and b"-: 1 of 1 translated" in done.stderr
    assert Image.open(io.BytesIO(done.stdout)).format == "TIFF"
    assert np.array_equal(images.decode(done.stdout), expected(picture))
    again = subprocess.run([*command, "--resume"], input=images.encode(picture), capture_output=True)
    assert (again.returncode, again.stdout) == (0, done.stdout)  # what went through a pipe is not there
    done = subprocess.run([*command[:-4], "--output", "b.png"], input=b"no picture", capture_output=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1) and b"-: not a picture" in done.stderr
    assert not (tmp_path / "b.png").exists()


def test_pictures_of_one_size_share_a_pass(infer, tmp_path, expected, passes):
    for i in range(8):
        images.write(tmp_path / "in" / f"{i}.png", draw(i, 32, 40 if i == 5 else 32))
    assert infer("in", "out").status == 0
    assert [pictures.shape[0] for pictures in passes] == [5, 1, 2]
    for i in range(8):
        translated = images.read(tmp_path / "out" / f"{i}.png").astype(int)
        assert np.abs(translated - expected(draw(i, 32, 40 if i == 5 else 32))).max() <= 1


def test_where_memory_is_not_enough_at_all_it_says_so(infer, tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    put(tmp_path / "in", "a.png")
    monkeypatch.setattr(Translator, "__call__", fail)
    hopeless = infer("in", "new", "--tile", 64)
    assert (hopeless.status, hopeless.err.count("\n")) == (1, 1) and "out of memory" in hopeless.err


def test_a_tile_is_what_is_asked_for(infer, tmp_path, passes):
    images.write(tmp_path / "a.png", draw(0, 70, 150))
    assert infer("a.png", "b.png", "--keep_size", "--tile", 72).status == 0
    assert [pictures.shape[1:3] for pictures in passes] == [(70, 72), (70, 72), (70, 74)]


def test_what_is_too_large_for_its_format_is_named_and_the_rest_is_done(infer, tmp_path):
    put(tmp_path / "in", "a.png", "c.png")
    (tmp_path / "in" / "b.png").write_bytes(images.encode(np.zeros((8, 17_000, 3), np.uint8)))
    outcome = infer("in", "out", "--keep_size", "--format", "webp", "--tile", 512)
    assert outcome.status == 1 and outcome.err.startswith("left out: in/b.png: 17000×8 cannot be written as WEBP")
    assert set(snapshot(tmp_path / "out")) == {"a.webp", "c.webp"} and "2 of 3 translated" in outcome.out


# --- the way back, strips, and a page


def test_the_way_back_is_written_and_measured(infer, tmp_path, model_file, expected):
    pictures = put(tmp_path / "in", "a.png", "x/b.png")
    outcome = infer("in", "out", "--cycle", model_file)
    assert set(snapshot(tmp_path / "out")) == {"a.png", "a_back.png", "x/b.png", "x/b_back.png"}
    backs = [images.read(tmp_path / "out" / name) for name in ("a_back.png", "x/b_back.png")]
    for picture, back in zip(pictures, backs, strict=True):
        assert np.abs(back.astype(int) - expected(expected(picture))).max() <= 1
    differ = np.mean([difference(picture, back) / 255 for picture, back in zip(pictures, backs, strict=True)])
    assert f"after the way back they differ by {differ:.2%} of the range" in outcome.out

    infer("in", "out", "--cycle", model_file).assert_refused("--output out/a.png and 3 more: exists")
    put(tmp_path / "in", "x/b_back.png")
    infer("in", "new", "--cycle", model_file).assert_refused(
        "x/b.png and x/b_back.png would become the same file, new/x/b_back.png; rename one"
    )
    (tmp_path / "in/x/b_back.png").unlink()
    (tmp_path / "out" / "a_back.png").unlink()
    resumed = infer("in", "out", "--cycle", model_file, "--resume")
    assert "1 of 2 translated" in resumed.out and (tmp_path / "out" / "a_back.png").exists()


@pytest.mark.parametrize("cycle", [False, True])
def test_strips_show_all_side_by_side(infer, tmp_path, model_file, cycle):
    (tmp_path / "a.png").write_bytes(ODD["PNG alpha"][0])
    flags = ["--cycle", model_file] if cycle else []
    infer("a.png", "plain.png", "--keep_size", *flags)
    infer("a.png", "strip.png", "--keep_size", "--side_by_side", *flags)
    parts = [cutouts.resize(*images.decode_with_alpha(ODD["PNG alpha"][0]), *ALPHA.shape)[0]]
    parts += [np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("plain.png", *(["plain_back.png"] if cycle else []))]
    strip = Image.open(tmp_path / "strip.png")
    assert np.array_equal(strip.convert("RGB"), np.concatenate(parts, axis=1))
    assert np.array_equal(strip.getchannel("A"), np.concatenate([ALPHA] * len(parts), axis=1))
    assert not (tmp_path / "strip_back.png").exists()


def test_the_gallery_shows_all_that_is_there(infer, tmp_path):
    put(tmp_path / "in", "a.png", "b.png", "x/c.png")
    (tmp_path / "in" / "d.png").write_bytes(DAMAGED["text"])
    put(tmp_path / "out", "b.png")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("of the run before")
    outcome = infer("in", "out", "--resume", "--gallery", "page/index.html")
    assert outcome.status == 1 and outcome.err.startswith("left out: in/d.png")
    page = (tmp_path / "page" / "index.html").read_text()
    assert [page.count(f">{name}<") for name in ("a.png", "b.png", "x/c.png", "d.png")] == [1, 1, 1, 0]
    assert page.count("data:image/jpeg;base64,") == 6 and page.index(">a.png<") < page.index(">b.png<") < page.index(">x/c.png<")
    assert "apple → orange" in page


def test_the_gallery_shows_each_picture_by_itself(infer, tmp_path, expected):
    (picture,) = put(tmp_path, "a.png")
    assert infer("a.png", "b.png", "--side_by_side", "--gallery", "page.html").status == 0
    found = [base64.b64decode(data) for data in re.findall(r'src="data:image/jpeg;base64,([^"]*)"', (tmp_path / "page.html").read_text())]
    assert found == [gallery.thumbnail(picture), gallery.thumbnail(expected(picture))]


def test_the_rest_of_a_folder_is_done_if_some_cannot_be_read(infer, tmp_path, expected):
    names = [f"{i:02}.png" for i in range(20)]  # more than are read ahead
    pictures = put(tmp_path / "in", *names)
    for name, data in DAMAGED.items():
        (tmp_path / "in" / f"{name}.jpg").write_bytes(data)
    (tmp_path / "in" / "link.png").symlink_to("nowhere")
    outcome = infer("in", "out")
    assert outcome.status == 1
    wrong = sorted([*(f"in/{name}.jpg" for name in DAMAGED), "in/link.png"])
    assert [line.split(": ")[:2] for line in outcome.err.splitlines()] == [["left out", name] for name in wrong]
    assert f"20 of {20 + len(wrong)} translated" in outcome.out
    assert set(snapshot(tmp_path / "out")) == set(names)
    for name, picture in zip(names, pictures, strict=True):
        assert np.abs(images.read(tmp_path / "out" / name).astype(int) - expected(picture)).max() <= 1  # of several in a pass


def test_a_folder_that_cannot_be_read_is_named(infer, tmp_path, forbid):
    put(tmp_path / "in", "a.png", "secret/b.png")
    forbid(tmp_path / "in" / "secret")
    for source in ("in", "in/**/*.png"):
        outcome = infer(source, "out", "--overwrite")
        assert (outcome.status, outcome.err) == (1, "left out: in/secret: a folder that cannot be read (Permission denied)\n")
        assert "1 of 1 translated" in outcome.out and set(snapshot(tmp_path / "out")) == {"a.png"}


@pytest.mark.parametrize("gpus, details, name", [([], {}, "CPU"), (["GPU:0"], {"device_name": "A card"}, "A card"), (["GPU:0"], {}, "GPU")])
def test_it_says_on_which_device_it_ran(call, model_file, tmp_path, monkeypatch, gpus, details, name):
    put(tmp_path, "a.png")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    outcome = call(inference.main, "--model", model_file, "--input", tmp_path / "a.png", "--output", tmp_path / "b.png")
    assert f"1 of 1 translated on {name} in " in outcome.out


def test_pictures_that_exist_are_replaced_only_on_demand(infer, tmp_path, expected):
    (picture,) = put(tmp_path / "in", "a.png")
    put(tmp_path / "in", "b.png", "c.png")
    put(tmp_path / "out", "b.png", "c.png", "other.png")
    before = snapshot(tmp_path)
    infer("in", "out").assert_refused("--output out/b.png and 1 more", "--overwrite")
    infer("in/a.png", "out/b.png").assert_refused("--output out/b.png:", "--overwrite", "--resume")
    assert snapshot(tmp_path) == before
    assert infer("in", "out", "--overwrite").status == 0
    assert np.array_equal(images.read(tmp_path / "out" / "a.png"), expected(picture))
    after = snapshot(tmp_path)
    assert {name for name in before if after[name] != before[name]} == {"out/b.png", "out/c.png"}


@pytest.mark.parametrize(
    ("source", "output", "flags"),
    [
        ("in/a.png", "in/a.png", []),
        ("in/a.png", "x/../in/a.png", []),
        ("in/a.png", "in", []),
        ("in/a.png", "hard.png", []),
        ("in/a.png", "soft.png", []),
        ("soft.png", "in/a.png", []),
        ("in", "in", []),
        ("in", "in", ["--format", "jpg"]),
        ("in", "link", []),
        ("link", "in", []),
        ("in/*.png", "in", []),
        ("in/a*", "link", []),
        ("in/a_back.png", "in/a.png", ["--cycle"]),
        ("in/*.png", "in", ["--shard", "1/2"]),
        ("page.html", "in/new.png", ["--gallery", "page.html"]),
    ],
)
def test_no_picture_is_replaced_by_its_translation(infer, tmp_path, model_file, monkeypatch, source, output, flags):
    """Whatever name it goes by. That is known before a model is loaded."""
    put(tmp_path, "in/a.png", "in/a_back.png", "x/1.png", "page.html")
    (tmp_path / "hard.png").hardlink_to(tmp_path / "in" / "a.png")
    (tmp_path / "soft.png").symlink_to(tmp_path / "in" / "a.png")
    (tmp_path / "link").symlink_to("in")
    monkeypatch.setattr(model_files, "load", lambda *_: pytest.fail("loaded"))
    before = snapshot(tmp_path)
    flags = [*flags, model_file] if flags == ["--cycle"] else flags
    for more in ("--overwrite", "--resume"):
        infer(source, output, *flags, more).assert_refused("--gallery page.html" if source == "page.html" else f"--output {output}"[:12])
        assert snapshot(tmp_path) == before


@pytest.mark.parametrize("which", ["--model", "--cycle"])
@pytest.mark.parametrize(
    ("output", "flags", "words"),
    [
        ("m.pb", [], "is inside"),
        ("m.pb/new/", [], "is inside"),
        ("link", [], "is inside"),
        ("link/new/b.png", [], "is inside"),
        ("m.png", [], "would replace"),
        ("out/", ["--gallery", "m.html"], "--gallery m.html: would replace"),
        ("out/", ["--gallery", "m.pb/page.html"], "--gallery m.pb/page.html: is inside"),
    ],
)
def test_no_model_is_replaced_or_written_into(call, tmp_path, monkeypatch, which, output, flags, words):
    put(tmp_path, "in/a.png")
    (tmp_path / "m.pb").mkdir()
    (tmp_path / "link").symlink_to("m.pb")
    for name in ("m.png", "m.html"):
        (tmp_path / name).write_bytes(b"a model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_files, "load", lambda *_: pytest.fail("loaded"))
    model = next((name for name in (output, flags[-1] if flags else "") if name in ("m.png", "m.html")), "m.pb")
    models = {"--model": "other.pb", which: model}
    command = ["--input", "in/a.png", "--output", output, *flags, *(word for pair in models.items() for word in pair)]
    before = snapshot(tmp_path)
    for more in (["--overwrite"], ["--resume"]):
        call(inference.main, *command, *more).assert_refused(words, f"{which} {model}; name another place")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("output", ["in/out", "link/new/out", "in/through"])
def test_what_was_translated_into_the_folder_is_not_translated_again(infer, tmp_path, made, output):
    put(tmp_path / "in", *NESTED)
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in" / "through").symlink_to(tmp_path / "elsewhere")
    for flags, count in (([], 7), (["--overwrite"], 7), (["--resume"], 0), (["--overwrite", "--shard", "1/2"], 3)):
        made.clear()
        outcome = infer("in", output, *flags)
        assert (outcome.status, outcome.err) == (0, "") and len(made) == count
        assert set(snapshot(tmp_path / output)) == {str(Path(name).with_suffix(".png")) for name in NESTED}
    (tmp_path / output / "more").mkdir()
    put(tmp_path / output, "more/f.png")
    made.clear()
    assert infer("in/*/*.png", output, "--overwrite").status == 0
    assert [Path(file).relative_to(output).as_posix() for file in made] == ["c/1.png", "c/2.png"]


def test_only_files_are_read(infer, tmp_path, model_file):
    """Who opens a pipe without a writer waits for ever, and a device need have no end."""
    put(tmp_path / "in", "a.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    (tmp_path / "in" / "zero.png").symlink_to("/dev/zero")
    alone = "is a pipe or a device; a picture from a pipe is read with --input -"
    infer("in/pipe.png", "b.png").assert_refused(f"--input in/pipe.png: {alone}")
    infer("/dev/zero", "b.png").assert_refused(f"--input /dev/zero: {alone}")
    for source, files in (("in", "in"), ("in/*.png", "in")):
        outcome = infer(source, "out", "--overwrite")
        lines = [f"left out: {files}/{name}.png: is a pipe or a device; save it as a file first" for name in ("pipe", "zero")]
        assert outcome.status == 1 and outcome.err.splitlines() == lines and "1 of 3 translated" in outcome.out
    infer("in/a.png", "b.png", "--model", "in/pipe.png").assert_refused("in/pipe.png: is a pipe or a device; save it as a file first")
    infer("in/a.png", "in/pipe.png", "--overwrite").assert_refused("--output in/pipe.png: is a pipe or a device; name a file")
    assert (tmp_path / "in" / "pipe.png").is_fifo()


def test_pictures_of_other_formats_are_told_of(infer, tmp_path, monkeypatch):
    put(tmp_path / "in", "a.avif", "b.JFIF", "notes.txt", "x/c.svg", "x/d.CR2")
    outcome = infer("in", "out")
    words = "left out: in/x/c.svg and 1 more, of formats that are not read (1 .cr2, 1 .svg): convert to .jpg or .png\n"
    assert (outcome.status, outcome.err) == (0, words)
    assert set(snapshot(tmp_path / "out")) == {"a.png", "b.png"}


# --- a share of a folder, and going on


NESTED = ["a.png", "b.jpg", "c/1.png", "c/2.png", "c/d/1.png", "e/1.bmp", "f.png"]


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """The pictures that are written, in their order."""
    plain, made = images.write, []

    def write(file, *picture):
        plain(file, *picture)
        made.append(str(file))

    monkeypatch.setattr(images, "write", write)
    return made


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_all_shards_are_the_whole_folder_and_none_does_what_another_did(infer, tmp_path, made, n):
    put(tmp_path / "in", *NESTED)
    assert infer("in", "whole").status == 0
    made.clear()
    for i in reversed(range(n)):
        outcome = infer("in", "out", "--shard", f"{i}/{n}")
        count = len(NESTED[i::n])
        assert (outcome.status, outcome.err) == (0, "") and f"out: {count} of {count} translated" in outcome.out
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")
    assert len(made) == len(NESTED)


def test_a_shard_without_pictures_is_done_at_once(infer, tmp_path):
    put(tmp_path / "in", "a.png", "b.png")
    outcome = infer("in", "out", "--shard", "2/3")
    assert (outcome.status, outcome.err) == (0, "")
    assert "out: 0 of 0 translated" in outcome.out
    assert not (tmp_path / "out").exists()


def test_a_shard_is_kept_from_replacing_its_own_pictures_only(infer, tmp_path):
    put(tmp_path / "in", "a.png", "b.png", "c.png")
    put(tmp_path / "out", "b.png")
    assert infer("in", "out", "--shard", "0/2").status == 0
    infer("in", "out", "--shard", "1/2").assert_refused("--output out/b.png: exists", "--overwrite")


def test_what_exists_is_left_and_counted_and_the_rest_is_made(infer, tmp_path, made):
    put(tmp_path / "in", *NESTED)
    infer("in", "whole")
    put(tmp_path / "out", "c/1.png", "f.png")
    (tmp_path / "in" / "g.png").write_bytes(DAMAGED["text"])
    (tmp_path / "out" / ".f.png.tmp-1-1").write_bytes(b"what a process that was killed leaves")
    before = snapshot(tmp_path / "out")
    made.clear()
    for count, there in ((5, 2), (0, 7)):
        outcome = infer("in", "out", "--resume")
        assert outcome.status == 1 and outcome.err.startswith("left out: in/g.png")
        assert f"out: {count} of 8 translated on " in outcome.out and outcome.out.endswith(f" s, {there} were there\n")
        assert len(made) == 5
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole") | before


def test_what_was_made_otherwise_is_made_anew_and_told(infer, tmp_path, model, model_file, made, monkeypatch):
    put(tmp_path / "in", "a.png", "b.png")
    load = model_files.load
    monkeypatch.setattr(
        model_files, "load", lambda file, *_: dataclasses.replace(model, checksum="1") if file == Path("other") else load(file)
    )
    for flags, reason in (
        ([], ""),
        (["--image_size", 40], "with other settings"),
        (["--keep_size"], "with other settings"),
        (["--keep_size", "--tile", 64], "with other settings"),
        (["--keep_size", "--keep_metadata"], "with other settings"),
        (["--cycle", "other"], "half of a pair"),
        (["--cycle", "other", "--max_megapixels", 50], None),
        (["--cycle", model_file], "by another model"),
        (["--keep_size", "--cycle", model_file], "with other settings"),
        (["--keep_size"], None),  # of which it is the first half
        (["--side_by_side"], "with other settings"),
        (["--side_by_side", "--cycle", model_file], "by another model"),
        (["--model", "other"], "by another model"),
        (["--model", "other", "--gallery", "page.html"], None),
    ):
        outcome = infer("in", "out", *flags, "--resume")
        assert outcome.status == 0 and outcome.err == "", flags
        assert len(made) == (0 if reason is None else 4 if "--cycle" in flags and "--side_by_side" not in flags else 2), flags
        assert outcome.out.partition(" were there")[2].startswith(f", 2 made anew (2 {reason})" if reason else ""), flags
        assert ("made anew" in outcome.out) == bool(reason)
        made.clear()


def test_what_is_empty_old_or_of_another_input_is_made_anew(infer, tmp_path, made):
    put(tmp_path / "in", "a.png", "b.png", "c.png", "d.png", "e.png")
    assert infer("in", "out", "--format", "jpg").status == 0
    (tmp_path / "out" / "a.jpg").write_bytes(b"")
    os.utime(tmp_path / "out" / "b.jpg", (1, 1))
    images.write(tmp_path / "in" / "c.png", draw(9, 40, 40))
    os.utime(tmp_path / "in" / "c.png", (1, 1))
    (tmp_path / "out" / "d.jpg").write_bytes(images.encode(draw(1), ".jpg"))
    made.clear()
    outcome = infer("in", "out", "--format", "jpg", "--resume")
    assert outcome.status == 0 and sorted(made) == ["out/a.jpg", "out/b.jpg", "out/c.jpg"]
    assert outcome.out.endswith(" s, 2 were there, 3 made anew (1 empty, 1 of another input, 1 older than the input)\n")
    assert outcome.err == "kept: out/d.jpg, without a word of what made it; --overwrite makes all anew\n"


def test_what_cannot_be_made_anew_stays_and_does_not_count(infer, tmp_path):
    put(tmp_path / "in", "a.png", "b.png")
    infer("in", "out")
    before = snapshot(tmp_path / "out")
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(DAMAGED["text"])
    outcome = infer("in", "out", "--resume")
    assert outcome.status == 1 and "0 of 2 translated" in outcome.out and "anew" not in outcome.out
    assert snapshot(tmp_path / "out") == before


def test_a_link_among_the_outputs_stays_and_two_to_one_file_are_refused(infer, tmp_path):
    put(tmp_path, "in/a.png", "in/b.png")
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "out" / name).symlink_to("../disk/same.png")
    infer("in", "out", "--overwrite").assert_refused(f"a.png and b.png would become the same file, {tmp_path}/disk/same.png; rename one")
    (tmp_path / "out" / "b.png").unlink()
    (tmp_path / "out" / "b.png").symlink_to("a.png")
    infer("in", "out", "--overwrite").assert_refused("a.png and b.png would become the same file")
    (tmp_path / "out" / "b.png").unlink()
    assert infer("in", "out", "--overwrite").status == 0
    assert (tmp_path / "out" / "a.png").is_symlink() and set(snapshot(tmp_path / "disk")) == {"same.png"}
    (tmp_path / "out" / "b.png").unlink()
    (tmp_path / "out" / "b.png").symlink_to("../in/new.png")
    infer("in", "out", "--resume")
    assert set(snapshot(tmp_path / "in")) == {"a.png", "b.png", "new.png"}


@pytest.mark.parametrize("forbidden", ["out", "out/sub", "page", "disk"])
def test_what_cannot_be_written_is_noticed_before_a_model_is_loaded(infer, tmp_path, monkeypatch, forbidden):
    put(tmp_path, "in/a.png", "in/sub/b.png", "in/c.png", "out/sub/other.png", "page/other.png", "disk/other.png")
    (tmp_path / "out" / "c.png").symlink_to("../disk/c.png")
    monkeypatch.setattr(model_files, "load", lambda *_: pytest.fail("loaded"))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).resolve() != tmp_path / forbidden and access(path, mode))
    outcome = infer("in", "out", "--gallery", "page/index.html", "--resume")
    outcome.assert_refused(f"{forbidden}; name another place, or get the right to write there", "nothing can be written in ")


def test_shards_are_gone_on_with_too(infer, tmp_path, made):
    put(tmp_path / "in", *NESTED)
    put(tmp_path / "out", "a.png", "b.png", "c/2.png")
    outcome = infer("in", "out", "--shard", "1/2", "--resume")
    assert "out: 1 of 3 translated" in outcome.out and outcome.out.endswith(", 2 were there\n")
    assert made == ["out/e/1.png"]


def test_a_single_picture_that_is_there_is_left(infer, tmp_path):
    put(tmp_path, "a.png", "b.png")
    before = snapshot(tmp_path)
    outcome = infer("a.png", "b.png", "--resume")
    assert outcome.status == 0 and "b.png: 0 of 1 translated" in outcome.out and snapshot(tmp_path) == before


@pytest.mark.long
def test_two_processes_fill_one_folder_at_once(tmp_path, model_file):
    """Folders that both need, and pictures whose names begin alike."""
    names = [f"{folder}/{'a' * 60}{i}.png" for folder in ("a", "a/b", "c/d/e") for i in range(8)]
    put(tmp_path / "in", *names)
    command = [sys.executable, "inference.py", "--model", model_file, "--input", tmp_path / "in", "--output", tmp_path / "out"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    processes = [
        subprocess.Popen([*command, "--shard", f"{i}/2"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        for i in range(2)
    ]
    said = [process.communicate()[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert all(": 12 of 12 translated" in words for words in said)
    assert set(snapshot(tmp_path / "out")) == set(names)


@pytest.fixture
def wrong_things(tmp_path) -> Path:
    put(tmp_path, "a.png", "in/a.png", "twins/a.png", "twins/a.jpg", "many/1.bmp", "many/1.gif", "many/2.png", "many/2.tif", "many/3.png")
    (tmp_path / "cut.jpg").write_bytes(DAMAGED["cut JPEG"])
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "old.html").write_text("old")
    (tmp_path / "large.png").write_bytes(images.encode(np.zeros((1000, 1001, 3), np.uint8)))
    (tmp_path / "thin.png").write_bytes(images.encode(np.zeros((1, 40_000, 3), np.uint8)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.pb").mkdir()
    (tmp_path / "damaged.pb" / "saved_model.pb").write_bytes(b"damaged")
    return tmp_path


@pytest.mark.parametrize(
    "source, output, flags, words",
    [
        ("nowhere.png", "new/b.png", [], ["--input nowhere.png", "no such picture or folder"]),
        ("empty", "new", [], ["empty: no picture"]),
        ("cut.jpg", "new/b.png", [], ["cut.jpg: damaged picture"]),
        ("notes.txt", "new/b.png", [], ["notes.txt: not a picture"]),
        ("a.png", "new/b.bmp", [], ["--output new/b.bmp", ".png .jpg .jpeg .webp .tif .tiff"]),
        ("a.png", "new/b", [], ["--output new/b", ".png .jpg .jpeg"]),
        ("in", "notes.txt", [], ["--output notes.txt", "is no folder", "name a folder"]),
        ("in", "-", [], ["--output -", "is no folder", "name a folder"]),
        ("many/*.xyz", "new", [], ["--input many/*.xyz", "no file is called like that"]),
        ("many/1.*", "new", [], ["--input many/1.*: 1.bmp and 1.gif would become the same file, new/1.png; rename one"]),
        ("a.png", "-", ["--cycle", "in"], ["--output -", "--side_by_side"]),
        ("a.png", "new/b.png", ["--cycle", "in"], ["in: no model"]),
        ("a.png", "new/b.png", ["--image_size", "32", "--keep_size"], ["--image_size --keep_size", "leave one out"]),
        ("a.png", "new/b.png", ["--tile", "70"], ["--tile", "70", "use 68 or 72"]),
        ("a.png", "new/b.png", ["--gallery", "new/a.png"], ["--gallery new/a.png", ".html"]),
        ("a.png", "new/b.png", ["--gallery", "notes.txt/a.html"], ["notes.txt/a.html", "notes.txt is no folder"]),
        ("a.png", "new/b.png", ["--gallery", "old.html"], ["--gallery old.html: exists", "--overwrite"]),
        ("large.png", "new/b.png", ["--max_megapixels", "1"], ["large.png: 1001×1000 is more than 1 megapixels"]),
        ("thin.png", "new/b.png", ["--max_megapixels", "1"], ["thin.png: 40000×1 would be computed as 1280000×32", "--keep_size"]),
        ("twins", "new", [], ["--input twins: a.jpg and a.png would become the same file, new/a.png; rename one"]),
        ("many", "new", [], ["--input many: 1.bmp and 1.gif would become the same file, new/1.png (and 1 more like it); rename one"]),
        ("a.png", "new/b.png", ["--image_size", "7"], ["--image_size", "7", "at least 8"]),
        ("a.png", "new/b.png", ["--image_size", "large"], ["--image_size", "large"]),
        ("in", "new", ["--format", "gif"], ["--format", "gif", "png", "jpg", "webp", "tif"]),
        ("in", "new", ["--over"], ["--over"]),
        ("in", "new", ["--shard", "2/2"], ["--shard", "2/2", "use 0/2 to 1/2"]),
        ("in", "new", ["--shard", "0/0"], ["--shard", "0/0", "at least 1"]),
        ("in", "new", ["--shard", "1"], ["--shard", "'1'", "I/N"]),
        ("in", "new", ["--shard=-1/2"], ["--shard", "'-1/2'", "I/N"]),
        ("a.png", "new.png", ["--shard", "0/2"], ["--shard 0/2", "a.png is a single picture"]),
        ("twins", "new", ["--shard", "0/2"], ["--input twins: a.jpg and a.png", "new/a.png; rename one"]),
        ("in", "new", ["--resume", "--overwrite"], ["--resume --overwrite", "leave one out"]),
        ("in", "twins/../in", ["--shard", "0/1"], ["--output twins/../in: is the folder of --input"]),
        ("in", "new", ["--model", "nowhere.pb"], ["nowhere.pb: no such model", "export_graph.py"]),
        ("in", "new", ["--model", "a.png"], ["a.png: no model; make one", "export_graph.py"]),
        ("in", "new", ["--model", "in"], ["in: no model (a folder without saved_model.pb)", "export_graph.py"]),
        ("in", "new", ["--model", "damaged.pb"], ["damaged.pb: damaged model"]),
    ],
)
def test_wrong_input_is_refused_and_leaves_nothing(infer, wrong_things, source, output, flags, words):
    before, entries = snapshot(wrong_things), set(wrong_things.rglob("*"))
    outcome = infer(source, output, *flags)
    outcome.assert_refused(*words)
    assert outcome.out == "" and snapshot(wrong_things) == before and set(wrong_things.rglob("*")) == entries


@pytest.mark.parametrize("missing", ["--model", "--input", "--output"])
def test_all_three_are_needed(call, missing):
    given = [x for flag in ("--model", "--input", "--output") if flag != missing for x in (flag, "a")]
    call(inference.main, *given).assert_refused(missing)


@pytest.mark.parametrize("fixed", ["there", "back"])
def test_models_of_one_size_refuse_another(call, model, tmp_path, monkeypatch, fixed):
    put(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    sizes = {fixed: 24}
    monkeypatch.setattr(
        model_files, "load", lambda file, trust=False: dataclasses.replace(model, file=file, fixed_size=sizes.get(str(file)))
    )
    flags = ["--model", "there", "--cycle", "back", "--input", "a.png", "--output", "b.png", "--image_size"]
    call(inference.main, *flags, 32).assert_refused(f"--image_size 32: {fixed} is for 24 only")
    assert call(inference.main, *flags, 24).status == 0


def test_pictures_of_a_pattern_go_in_the_order_of_their_names(infer, tmp_path, made, monkeypatch):
    put(tmp_path / "in", "a.png", "b.png", "c.png")
    monkeypatch.setattr(finding, "glob", lambda pattern, *_: ["in", *(f"in/{name}.png" for name in "bca")])
    assert infer("in/*.png", "out").status == 0
    assert made == ["out/a.png", "out/b.png", "out/c.png"]


def test_a_full_disk_stops_the_command_and_leaves_no_half_picture(infer, tmp_path, monkeypatch):
    put(tmp_path / "in", "a.png", "b.png", "c.png")
    real = Path.write_bytes

    def fail(file, data):
        real(file, data)
        if "b.png" in str(file):
            raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(Path, "write_bytes", fail)
    outcome = infer("in", "out")
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert outcome.err.endswith("out/b.png: No space left on device\n")
    assert set(snapshot(tmp_path / "out")) <= {"a.png", "c.png"}


def test_the_real_command_says_only_what_matters(tmp_path, model_file):
    """In its own process, where libraries can say what they like about a picture with odd metadata."""
    put(tmp_path / "in", "a.png")
    (tmp_path / "in" / "b.jpg").write_bytes(ODD["JPEG orientation beside damaged EXIF"][0])
    (tmp_path / "in" / "c.jpg").write_bytes(PLAIN["JPEG with damaged EXIF"])
    command = [sys.executable, "inference.py", "--model", model_file, "--input", tmp_path / "in", "--output", tmp_path / "out"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path / 'out'}: 3 of 3 translated on CPU in ") and done.stdout.count("\n") == 1
