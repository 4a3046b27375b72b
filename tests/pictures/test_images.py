"""Picture files: every kind that people have is read as the same upright RGB, and what is no picture is refused."""

import io
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import draw, snapshot
from photos import ALPHA, DAMAGED, GOOD, LOSSY, ODD, OVER_WHITE, PLAIN, RGB, SCENE, difference, save
from PIL import Image

from pictures import images
from system.cli import InputError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pytest undoes the filter in images.py


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_read_as_upright_rgb_and_most_need_conversion(name):
    data, expected, tolerance = ODD[name]
    picture = images.decode(data)
    assert picture.dtype == np.uint8
    assert difference(picture, expected) <= tolerance
    assert images.is_plain(data) == (name in GOOD)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_pictures_need_no_conversion(name):
    assert images.is_plain(PLAIN[name])
    assert difference(images.decode(PLAIN[name]), SCENE) <= (LOSSY if "JPEG" in name else 0)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_pictures_are_refused(name):
    with pytest.raises(images.PictureError):
        images.decode(DAMAGED[name])


@pytest.mark.parametrize("name", [*PLAIN, *ODD])
def test_no_damage_raises_anything_else(name):
    """Every byte of the header inverted, and cut anywhere."""
    data = PLAIN[name] if name in PLAIN else ODD[name][0]
    cuts = [data[:n] for n in range(0, len(data), max(len(data) // 10, 1))]
    flips = [data[:i] + bytes([data[i] ^ 0xFF]) + data[i + 1 :] for i in range(0, 120, 7)]
    for damaged in cuts + flips:
        for look in (images.is_plain, images.decode):
            try:
                look(damaged)
            except images.PictureError as e:
                assert str(e) not in ("", "None")


def test_a_bomb_is_refused_by_its_header_with_its_size():
    with pytest.raises(images.PictureError, match="20000×20000 is more than 100 megapixels"):
        images.is_plain(DAMAGED["bomb"])


def test_the_limit_is_ours_and_not_pillows():
    assert images.decode(PLAIN["PNG"], 40 * 56).shape == SCENE.shape
    for look in (images.decode, images.decode_with_alpha, images.size):
        with pytest.raises(images.PictureError, match="56×40 is more than"):
            look(PLAIN["PNG"], 40 * 56 - 1)


@pytest.mark.parametrize("name", ["PNG alpha", "WebP alpha", "TIFF alpha", "PNG 16 bit and alpha"])
def test_colours_and_alpha_come_apart(name):
    colours, alpha = images.decode_with_alpha(ODD[name][0])
    assert np.array_equal(alpha, ALPHA)
    assert np.array_equal(colours[ALPHA > 0], SCENE[ALPHA > 0])


@pytest.mark.parametrize("name", ["PNG", "JPEG CMYK", "GIF"])
def test_without_transparency_there_is_no_alpha(name):
    data = {**PLAIN, "JPEG CMYK": ODD["JPEG CMYK"][0], "GIF": ODD["GIF"][0]}[name]
    colours, alpha = images.decode_with_alpha(data)
    assert alpha is None and np.array_equal(colours, images.decode(data))


@pytest.mark.parametrize("suffix", images.FORMATS)
@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["opaque", "alpha"])
def test_every_format_is_written_and_read_again(suffix, alpha):
    data = images.encode(SCENE, suffix, alpha)
    assert Image.open(io.BytesIO(data)).format == images.FORMATS[suffix]
    lossy = images.FORMATS[suffix] in ("JPEG", "WEBP")
    colours, kept = images.decode_with_alpha(data)
    if images.FORMATS[suffix] == "JPEG":  # which has no alpha
        assert kept is None and difference(colours, SCENE if alpha is None else OVER_WHITE) <= LOSSY
    else:
        assert np.array_equal(kept, alpha) if alpha is not None else kept is None
        seen = np.full(SCENE.shape[:2], True) if alpha is None else alpha > 0
        assert difference(colours[seen], SCENE[seen]) <= LOSSY * lossy


def test_what_a_format_cannot_hold_is_refused_in_words():
    for suffix, most in ((".webp", 16_383), (".jpg", 65_500)):
        words = f"{most + 1}×1 cannot be written as {images.FORMATS[suffix]}, which has {most} pixels a side at most; use png"
        with pytest.raises(images.PictureError, match=f"^{words}$"):
            images.encode(np.zeros((1, most + 1, 3), np.uint8), suffix)
        assert images.decode(images.encode(np.zeros((most, 1, 3), np.uint8), suffix)).shape == (most, 1, 3)


def test_deep_grey_is_rounded_to_the_nearest_level():
    levels = np.array([[257 * 10 + 100, 257 * 10 + 200]], np.uint16)
    assert images.decode(save(Image.fromarray(levels), "TIFF"))[0, :, 0].tolist() == [10, 11]


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([np.nan, 0.5, 1], [0, 128, 255]),
        ([np.inf, -np.inf, 0.5], [255, 0, 128]),
        ([-3, 0.2, 0.4], [0, 51, 102]),
        ([np.nan, 10, 200], [0, 10, 200]),
        ([0, 2570, 65535], [0, 10, 255]),
        ([np.inf, 1.5e38, 3e38], [255, 128, 255]),
        ([0, 0, 0], [0, 0, 0]),
        ([-np.inf, -2, -1], [0, 0, 0]),
    ],
)
def test_numbers_of_every_kind_become_levels_and_what_is_none_black(values, levels):
    with warnings.catch_warnings(action="error"):
        assert images.decode(save(Image.fromarray(np.float32([values])), "TIFF"))[0, :, 0].tolist() == levels


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_picture_of_no_number_at_all_is_refused(value):
    with warnings.catch_warnings(action="error"), pytest.raises(images.PictureError, match="^none of its values is a finite number$"):
        images.decode(save(Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF"))


# --- HEIC, which phones write


def test_heic_is_read_where_its_reader_is_installed(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="bash scripts/setup.sh heif installs it")
    file = io.BytesIO()
    pillow_heif.from_pillow(RGB).save(file, quality=95)
    data = file.getvalue()
    assert difference(images.decode(data), SCENE) <= LOSSY and images.size(data) == (56, 40) and not images.is_plain(data)
    for name in ("a.heic", "b.HEIF"):
        (tmp_path / name).write_bytes(data)
    assert [found.name for found in images.find(tmp_path)] == ["a.heic", "b.HEIF"]
    for damaged in (data[:100], data[:-40]):
        with pytest.raises(images.PictureError):
            images.decode(damaged)


def test_without_it_what_is_missing_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(images.PictureError, match="^a picture in HEIC: bash scripts/setup.sh heif installs what reads HEIC, or convert"):
        images.decode(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf")
    monkeypatch.setattr(images, "_heif_is_installed", lambda: False)
    (tmp_path / "IMG_1.HEIC").touch()
    words = "IMG_1.HEIC, of formats that are not read (1 .heic): convert to .jpg or .png; bash scripts/setup.sh heif installs "
    with pytest.raises(InputError, match="no picture in this folder .*; there is ") as found:
        images.find(tmp_path)
    assert words in str(found.value)
    (tmp_path / "a.png").touch()
    assert [file.name for file in images.find(tmp_path)] == ["a.png"]
    assert capsys.readouterr().err == f"left out: {tmp_path}/{words}what reads HEIC\n"


# --- files


@pytest.mark.parametrize("what", ["damaged", "missing", "folder", "pipe"])
def test_read_names_the_file(tmp_path, what):
    file = tmp_path / "apple.png"
    if what == "damaged":
        file.write_bytes(DAMAGED["text"])
    if what == "folder":
        file.mkdir()
    if what == "pipe":  # without a writer, for whom opening it would wait
        os.mkfifo(file)
    with pytest.raises(images.PictureError, match=f"^{file}: .*[a-z]"):
        images.read(file)


def test_find_returns_every_picture_below_a_folder_in_order(tmp_path):
    names = ["B.PNG", "a.jpg", "a/x.Jpeg", "a/y/z.tiff", "b.gif", "c.tif", "d.bmp", "e.webp", "f.avif", "g.jfif", "h.JP2", "i.ppm"]
    others = [".hidden.png", ".hidden/a.png", "a/.hidden/b.png", "notes.txt", "png", "f.png.part", "g.npy"]
    for name in names + others:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "folder.png").mkdir()
    assert [f.relative_to(tmp_path).as_posix() for f in images.find(tmp_path)] == names


def test_find_leaves_a_folder_out_by_whatever_way_it_is_reached(tmp_path):
    for name in ("in/a.png", "in/out/a.png", "in/x/out/b.png", "outside/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "in" / "back").symlink_to(tmp_path / "in" / "out")

    def found(without):
        return [f.relative_to(tmp_path / "in").as_posix() for f in images.find(tmp_path / "in", without)]

    assert found(tmp_path / "in" / "out") == ["a.png", "link/c.png", "x/out/b.png"] == found(tmp_path / "in" / "x" / ".." / "out")
    assert found(tmp_path / "outside") == ["a.png", "out/a.png", "x/out/b.png"]
    assert len(found(tmp_path / "nowhere")) == len(found(None)) == 4


def test_find_follows_links_but_not_in_circles(tmp_path):
    for folder in ("pictures/a", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").touch()
    (tmp_path / "pictures" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pictures" / "a" / "up").symlink_to("..")
    assert [f.relative_to(tmp_path / "pictures").as_posix() for f in images.find(tmp_path / "pictures")] == ["a/1.png", "link/1.png"]


def test_find_takes_a_folder_once_however_many_links_lead_there(tmp_path):
    """By its own name, where it has one there."""
    folders = ("A", "B", "C", "Z")
    for folder in folders:
        (tmp_path / "all" / folder).mkdir(parents=True)
        (tmp_path / "all" / folder / f"{folder}.png").touch()
        for other in folders:
            (tmp_path / "all" / folder / f"to_{other}").symlink_to(f"../{other}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "o.png").touch()
    for name in ("all/link", "all/A/another"):
        (tmp_path / name).symlink_to(tmp_path / "outside")
    (tmp_path / "all" / "itself").symlink_to("itself")
    (tmp_path / "all" / "gone").symlink_to("nowhere")
    found = [f.relative_to(tmp_path / "all").as_posix() for f in images.find(tmp_path / "all")]
    assert found == ["A/A.png", "B/B.png", "C/C.png", "Z/Z.png", "link/o.png"]


def test_find_leaves_out_what_no_person_means_and_counts_it(tmp_path, capsys):
    kept = ["@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/old.png", "x/$Recycle.Bin/b.png", "x/y/__MACOSX/c.png", "LOST+FOUND/d.txt"]
    for name in ["a.jpg", "x/recycled paper/e.png", "#1/f.png", *kept]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [f.relative_to(tmp_path).as_posix() for f in images.find(tmp_path)] == ["#1/f.png", "a.jpg", "x/recycled paper/e.png"]
    words = "and 4 more folders of thumbnails, deleted files and the like, with 4 pictures: rename what you want to have taken"
    assert capsys.readouterr().err == f"left out: {tmp_path / '#recycle'} {words}\n"
    assert len(images.find(tmp_path / "@eaDir")) == 1 and capsys.readouterr().err == ""  # who names one means it


def test_find_names_a_folder_that_cannot_be_read(tmp_path, forbid, capsys):
    for name in ("a/1.png", "secret/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    forbid(tmp_path / "secret")
    problem, unreadable = f"{tmp_path / 'secret'}: a folder that cannot be read (Permission denied)", []
    assert images.find(tmp_path) == [tmp_path / "a" / "1.png"]
    assert capsys.readouterr().err == f"left out: {problem}\n"
    images.find(tmp_path, unreadable=unreadable)
    assert unreadable == [problem] and capsys.readouterr().err == ""
    with pytest.raises(InputError, match=r"no picture in this folder .*secret: a folder that cannot be read \(Permission denied\)$"):
        images.find(tmp_path / "secret")


@pytest.mark.parametrize("shape", [(3, 40), (41, 3), (20, 33)])
def test_the_middle_of_a_picture_of_any_shape(monkeypatch, shape):
    """One that would become huge is cut before it is resized, which gives the same but where Pillow clips what it overshoots."""
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    expected = images.centre_square(picture, 16)
    monkeypatch.setattr(images, "MAX_PIXELS", 0)
    assert np.abs(images.centre_square(picture, 16).astype(int) - expected).mean() < 1
    with pytest.raises(images.PictureError, match=rf"^{shape[1]}×{shape[0]} would become \d+×\d+; take it out$"):
        images.resize_short_side(picture, 16)


@pytest.mark.parametrize(
    "make, words",
    [(Path.touch, "is no folder; name one"), (Path.mkdir, "no picture"), (lambda path: None, "no such folder")],
)
def test_find_refuses_what_holds_no_picture(tmp_path, make, words):
    make(tmp_path / "pictures")
    with pytest.raises(InputError, match=f"{tmp_path / 'pictures'}: {words}"):
        images.find(tmp_path / "pictures")


@pytest.mark.parametrize("name, format", [("a.png", "PNG"), ("new/b.jpg", "JPEG"), ("new/folders/c.JPEG", "JPEG")])
def test_write_goes_by_the_suffix_and_makes_folders(tmp_path, name, format):
    images.write(tmp_path / name, SCENE)
    assert list(snapshot(tmp_path)) == [name]
    with Image.open(tmp_path / name) as picture:
        assert picture.format == format
        if format == "JPEG":
            assert picture.quantization == Image.open(io.BytesIO(save(RGB, "JPEG", quality=95))).quantization
    assert difference(images.read(tmp_path / name), SCENE) <= (0 if format == "PNG" else LOSSY)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    images.write(tmp_path / "a.png", SCENE)
    before = snapshot(tmp_path)
    for name in ("a.png", "new/b.png"):
        with pytest.raises(TypeError):
            images.write(tmp_path / name, SCENE.astype(np.float64))
    assert snapshot(tmp_path) == before and not (tmp_path / "new").exists()


def test_a_png_loses_nothing():
    assert np.array_equal(images.decode(images.encode(SCENE)), SCENE)


# --- sizes and the contact sheet


def test_resize_is_bicubic():
    """It overshoots at an edge, which no linear interpolation does."""
    edge = np.repeat(np.uint8([64, 192]), 8)[None, :, None] * np.ones((16, 1, 3), np.uint8)
    large = images.resize(edge, 64, 64)
    assert large.min() < 60 and large.max() > 196


def test_resize_is_antialiased_and_leaves_equal_sizes_alone():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(images.resize(stripes, 8, 8)[:, 1:-1] - 127.5).max() < 8  # without antialiasing each pixel is black or white
    assert images.resize(stripes, 32, 32) is stripes
    for height, width in ((5, 9), (5, 32), (32, 5)):
        assert images.resize(stripes, height, width).shape == (height, width, 3)


@pytest.mark.parametrize(
    "shape, size, expected",
    [
        ((40, 60), 20, (20, 30)),
        ((40, 63), 20, (20, 32)),
        ((63, 40), 20, (32, 20)),
        ((60, 40), 20, (30, 20)),
        ((40, 60), 80, (80, 120)),
        ((7, 7), 7, (7, 7)),
        ((1, 9), 8, (8, 72)),
    ],
)
def test_resize_short_side_keeps_the_aspect(shape, size, expected):
    assert images.resize_short_side(draw(0, *shape), size).shape == (*expected, 3)


def test_contact_sheet_shows_every_picture_in_its_row():
    colours = [[(255, 0, 0), (0, 255, 0)], [(0, 0, 255)]]
    rows = [(label, [np.full((9, 9, 3), c, np.uint8) for c in row]) for label, row in zip(("first", "second row"), colours, strict=True)]
    sheet = images.contact_sheet(rows, side=20, gap=4)
    height, width, _ = sheet.shape
    assert height == 2 * 24 + 4
    left = width - 2 * 24
    assert tuple(sheet[14, left + 10]) == (255, 0, 0) and tuple(sheet[14, left + 42]) == (0, 255, 0)
    assert tuple(sheet[38, left + 10]) == (0, 0, 255) and tuple(sheet[38, left + 34]) == (255, 255, 255)
    assert sheet[:24, :left].min() < 128 and sheet[28:, :left].min() < 128  # labels
    assert sheet[:4].min() == 255


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"), [(16, 25, slice(0, 16), slice(4, 20)), (31, 16, slice(7, 23), slice(0, 16))]
)
def test_a_centre_square_is_from_the_middle(height, width, rows, columns):
    picture = draw(0, height, width)
    assert np.array_equal(images.centre_square(picture, 16), picture[rows, columns])
    assert images.centre_square(picture, 8).shape == (8, 8, 3)
