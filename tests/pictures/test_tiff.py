"""TIFFs of every kind: read as another reader reads them, or named and refused."""

import io
import itertools
import re
import struct

import numpy as np
import pytest
import tifffile
from conftest import draw
from PIL import Image

from pictures import images

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pytest undoes the filter of ours
RGB = draw(3, 8, 12)
ALPHA = np.uint8(np.linspace(0, 255, 12)[None].repeat(8, axis=0))
NUMBERS = ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64"]
KINDS = {  # what is stored of a picture, and how it is called
    "grey": (RGB[..., :1], {"photometric": "minisblack"}),
    "white is zero": (255 - RGB[..., :1], {"photometric": "miniswhite"}),
    "grey, alpha": (np.dstack([RGB[..., :1], ALPHA]), {"photometric": "minisblack", "extrasamples": "unassalpha"}),
    "grey, multiplied": (np.dstack([ALPHA // 2, ALPHA]), {"photometric": "minisblack", "extrasamples": "assocalpha"}),
    "RGB": (RGB, {"photometric": "rgb"}),
    "RGB, alpha": (np.dstack([RGB, ALPHA]), {"photometric": "rgb", "extrasamples": "unassalpha"}),
    "RGB, multiplied": (np.dstack([ALPHA, ALPHA // 2, ALPHA // 3, ALPHA]), {"photometric": "rgb", "extrasamples": "assocalpha"}),
    "RGB, unknown": (np.dstack([RGB, ALPHA]), {"photometric": "rgb", "extrasamples": "unspecified"}),
    "CMYK": (np.dstack([255 - RGB, ALPHA // 4]), {"photometric": "separated"}),
}
READ = {(kind, numbers) for kind in ("RGB", "RGB, alpha", "RGB, multiplied", "RGB, unknown", "CMYK") for numbers in NUMBERS[:2]}
READ |= {("grey", numbers) for numbers in (*NUMBERS[:3], *NUMBERS[3:6], "float32")} | {
    ("white is zero", "uint8"),
    ("white is zero", "uint16"),
}
READ |= {("grey, alpha", "uint8"), ("grey, multiplied", "uint8")}


def tiff(picture: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    if options.get("planarconfig") == "separate":
        picture = np.moveaxis(picture, -1, 0)
    tifffile.imwrite(file, np.ascontiguousarray(picture[..., 0] if picture.shape[-1] == 1 else picture), metadata=None, **options)
    return file.getvalue()


def white(numbers: str) -> float:
    return 1 if numbers.startswith("f") else np.iinfo(numbers).max


def as_seen(data: bytes, kind: str) -> np.ndarray:
    """The picture that another reader finds, on white, float (H, W, 3)."""
    stored = tifffile.imread(io.BytesIO(data))
    values = stored.astype(np.float64) * 255 / white(stored.dtype.name)
    if values.ndim == 3 and values.shape[1:] == RGB.shape[:2]:
        values = np.moveaxis(values, 0, -1)
    values = values[..., None] if values.ndim == 2 else values
    if kind == "CMYK":
        return (255 - values[..., :3]) * (255 - values[..., 3:]) / 255
    colours = values[..., :3] if values.shape[-1] > 2 else values[..., [0, 0, 0]]
    if kind == "white is zero":
        colours = 255 - colours
    alpha = values[..., -1:] / 255
    if kind.endswith("multiplied"):
        return colours + 255 * (1 - alpha)
    return colours * alpha + 255 * (1 - alpha) if kind.endswith(" alpha") else colours


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_as_another_reader_does_or_refused_by_name(kind):
    values, options = KINDS[kind]
    read = set()
    layouts = itertools.product(NUMBERS, "<>", (None, "deflate"), (None, (16, 16)), ("contig", "separate"))
    for numbers, order, compression, tile, planes in layouts:
        if planes == "separate" and values.shape[-1] == 1 or compression and kind == "white is zero" and tile:
            continue
        scaled = np.array(values / 255.0 * white(numbers)).astype(numbers)
        more = {"planarconfig": planes} if values.shape[-1] > 1 else {}
        data = tiff(scaled, byteorder=order, compression=compression, tile=tile, **options, **more)
        try:
            found = images.decode(data)
        except images.PictureError as e:
            assert re.search(r"a TIFF of a kind that is not read \(\d × \d+ bit.*save it as a PNG$", str(e)), e
        else:
            assert np.abs(found - as_seen(data, kind)).max() <= 2, (numbers, order, compression, tile, planes)
            read.add((kind, numbers))
    assert read == {one for one in READ if one[0] == kind}


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_few_bits_are_read(bits, photometric):
    levels = np.arange(96, dtype=np.uint8).reshape(8, 12) % 2**bits
    stored = levels if photometric == "minisblack" else 2**bits - 1 - levels
    data = tiff(stored[..., None], photometric=photometric, bitspersample=bits)
    assert np.array_equal(images.decode(data)[..., 0], np.uint8(levels / (2**bits - 1) * 255))


def test_twelve_bits_are_not_taken_for_sixteen():
    levels = np.linspace(0, 4095, 96).astype(np.uint16).reshape(8, 12)
    data = tiff(levels[..., None], photometric="minisblack", bitspersample=12)
    assert np.abs(images.decode(data)[..., 0] - levels / 4095 * 255).max() <= 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("numbers", ["int16", "int32", "float32"])
def test_a_sign_is_no_brightness(order, numbers):
    values = np.array([[-1, -0.5, 0, 0.5, 1]]) * white(numbers)
    for compression in (None, "deflate"):
        data = tiff(values.astype(numbers)[..., None], photometric="minisblack", byteorder=order, compression=compression)
        assert np.abs(images.decode(data)[0, :, 0].astype(int) - [0, 0, 0, 128, 255]).max() <= 1


def test_floating_point_beyond_white_is_clipped():
    """The scale is not that of the brightest pixel."""
    values = np.linspace(0, 1.2, 96, dtype=np.float32).reshape(8, 12)
    found = images.decode(tiff(values[..., None], photometric="minisblack"))[..., 0]
    assert np.array_equal(found, np.rint(np.clip(values, 0, 1) * 255))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"photometric": "cfa", "extratags": [(33421, "H", 2, (2, 2), True), (33422, "B", 4, b"\0\1\1\2", True)]}, "1 × 8 bit, camera raw"),
        ({"photometric": "minisblack", "bitspersample": 7}, "1 × 7 bit, grey"),
        ({"photometric": "minisblack", "bigtiff": True, "byteorder": ">"}, "a TIFF of a kind that is not read"),
    ],
)
def test_what_is_in_a_tiff_that_is_not_read_is_named(options, words):
    with pytest.raises(images.PictureError, match=words):
        images.decode(tiff(RGB[..., :1] // 2, **options))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
def test_what_libtiff_says_is_not_printed_and_what_it_cannot_decode_is_refused(compression, capfd):
    file = io.BytesIO()
    Image.fromarray(draw(3, 40, 60)).save(file, "TIFF", compression=compression)
    data, refused = file.getvalue(), 0
    for at in range(8, len(data), len(data) // 60):
        try:
            images.decode(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        except images.PictureError:
            refused += 1
    assert capfd.readouterr().err == "" and refused


def test_a_damaged_tiff_is_refused_all_the_same():
    data = tiff(RGB, photometric="rgb")
    for size in range(0, len(data) - 40, 7):
        with pytest.raises(images.PictureError):
            images.decode(data[:size])


@pytest.mark.parametrize("most", [255, 65535])
def test_a_palette_is_in_levels_of_8_or_16_bit(most):
    """Old programs write the former, which the standard does not know."""
    palette = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    index, file = np.arange(256, dtype=np.uint8).reshape(16, 16), io.BytesIO()
    tifffile.imwrite(file, index, photometric="palette", colormap=palette * (most // 255))
    assert np.array_equal(images.decode(file.getvalue()), palette.T[index])


def test_compressions_of_few_libraries_are_named():
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "TIFF", compression="tiff_deflate")
    tags = data.getvalue()
    at = tags.index(struct.pack("<HHI", 259, 3, 1))
    for number in (6, 34925, 50001):
        with pytest.raises(images.PictureError, match=r"a TIFF of a kind that is not read \(3 × 8 bit, RGB, compressed.*save it as a PNG"):
            images.decode(tags[: at + 8] + struct.pack("<H", number) + tags[at + 10 :])


@pytest.mark.parametrize("order", ["thumbnail first", "thumbnails only"])
def test_the_first_page_is_the_first_that_is_no_thumbnail(order):
    file, thumbnail = io.BytesIO(), RGB[::2, ::2]
    with tifffile.TiffWriter(file) as writer:
        for _ in range(2):
            writer.write(thumbnail, subfiletype=1, photometric="rgb", metadata=None)
        if order == "thumbnail first":
            writer.write(RGB, photometric="rgb", metadata=None)
    data = file.getvalue()
    expected = RGB if order == "thumbnail first" else thumbnail
    assert np.array_equal(images.decode(data), expected) and images.size(data) == (expected.shape[1], expected.shape[0])


def test_a_damaged_page_is_not_replaced_by_its_thumbnail():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(RGB[::2, ::2], subfiletype=1, photometric="rgb", metadata=None)
        writer.write(draw(3, 80, 120), photometric="rgb", metadata=None)
    with pytest.raises(images.PictureError):
        images.decode(file.getvalue()[:-100])
