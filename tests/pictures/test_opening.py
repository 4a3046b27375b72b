"""Which files are opened at all, and what does not keep a picture from being read."""

import io
import itertools
import struct
import subprocess
import zlib

import numpy as np
import png
import pytest
from conftest import draw
from photos import ALPHA, LOSSY, NOISE, ODD, PLAIN, RGB, RGBA, SCENE, difference, png_chunk, save
from PIL import Image

from pictures import chunks, damage, images, opening

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pytest undoes the filter of ours
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n1 0 0 setrgbcolor\n0 0 20 20 rectfill\nshowpage\n"


# --- formats


def test_no_other_program_is_started(monkeypatch):
    """As Pillow would with a page description, whatever the file is called."""
    for name in ("Popen", "check_call", "call", "run", "check_output"):
        monkeypatch.setattr(subprocess, name, lambda *a, **k: pytest.fail("started"))
    wmf = b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<4hH", 0, 0, 20, 20, 72) + bytes(6) + b"\x01\0\x09\0" + bytes(40)
    for data in (EPS, b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(EPS)) + bytes(18) + EPS, wmf):
        with pytest.raises(images.PictureError, match="^not a picture of a format that is read$"):
            images.decode(data)


def test_only_the_formats_that_are_promised_are_opened(monkeypatch):
    """Pillow's other readers are not even asked."""
    Image.init()
    asked = []
    for format, (factory, _) in list(Image.OPEN.items()):
        if format not in (*opening.READ, "HEIF"):
            monkeypatch.setitem(Image.OPEN, format, (factory, lambda prefix, format=format: asked.append(format)))
    for format in ("ICO", "PCX", "SGI", "PPM", "DDS", "TGA", "XBM", "MSP", "ICNS", "DIB", "SPIDER", "QOI", "JPEG2000"):
        picture = {"MSP": RGB.convert("1"), "XBM": RGB.convert("1"), "SPIDER": RGB.convert("F")}.get(format, RGB)
        data = save(picture, format)
        if format in opening.READ:
            assert difference(images.decode(data), SCENE) <= LOSSY
        else:
            with pytest.raises(images.PictureError, match="^not a picture of a format that is read$"):
                images.decode(data)
    assert not asked


# --- metadata


def chunks_between(*chunks: bytes, into: bytes = PLAIN["PNG"]) -> bytes:
    """A PNG with more chunks before its pixels."""
    return into[:33] + b"".join(chunks) + into[33:]


LONG = bytes(3_000_000)
TEXTS = {
    "zTXt": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
    "iTXt": png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LONG)),
    "XMP": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
    "XMP beyond all measure": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(1 << 27), 1)),
    "profile": png_chunk(b"iCCP", b"Large\0\0" + zlib.compress(LONG)),
    "profile beyond all measure": png_chunk(b"iCCP", b"Large\0\0" + zlib.compress(bytes(1 << 27), 1)),
    "damaged profile": png_chunk(b"iCCP", b"Damaged\0\0" + zlib.compress(LONG)[:50]),
    "damaged text": png_chunk(b"zTXt", b"Comment\0\0nothing compressed"),
    "damaged EXIF": png_chunk(b"eXIf", b"II*\0nothing"),
    "empty chunks": b"".join(png_chunk(kind, b"") for kind in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"iCCP", b"eXIf", b"tIME", b"acTL")),
    "unknown chunk": png_chunk(b"quTe", LONG[:99]),
    "wrong checksum": png_chunk(b"tEXt", b"Comment\0nothing")[:-1] + b"!",
    "length that is too small": struct.pack(">I", 3) + b"tEXtComment\0nothing" + bytes(4),
    "length that is too large": struct.pack(">I", 3_000) + b"tEXtComment\0nothing" + bytes(4),
    "no chunk": b"nothing",
    "wrong checksum of a profile": png_chunk(b"iCCP", b"Damaged\0\0" + zlib.compress(b"1"))[:-1] + b"!",
    "damaged animation": png_chunk(b"acTL", b"\0\0\0\2\0\0\0\0") + png_chunk(b"fcTL", b"nothing"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_or_profile_costs_a_png(name):
    assert np.array_equal(images.decode(chunks_between(TEXTS[name])), SCENE)


def test_nor_do_a_wrong_checksum_of_pixels_that_are_whole_and_a_missing_end():
    end = PLAIN["PNG"].index(b"IEND") - 4
    assert np.array_equal(images.decode(PLAIN["PNG"][: end - 1] + b"!" + PLAIN["PNG"][end:]), SCENE)
    assert np.array_equal(images.decode(PLAIN["PNG"][:end]), SCENE)
    assert np.array_equal(images.decode(PLAIN["PNG"] + b"more"), SCENE)


@pytest.mark.parametrize("at", range(60, len(NOISE) - 20, 600))
def test_a_png_whose_pixels_are_not_whole_is_refused(at):
    with pytest.raises(images.PictureError, match="^damaged picture"):
        images.decode(NOISE[:at] + bytes([NOISE[at] ^ 4]) + NOISE[at + 1 :])


@pytest.mark.parametrize("name", ["EXIF", "XMP"])
def test_a_webp_that_ends_in_its_metadata_is_read(name):
    more = {"EXIF": {"exif": b"Exif\0\0" + LONG[:999]}, "XMP": {"xmp": LONG[:999]}}[name]
    data = save(RGBA, "WEBP", lossless=True, exact=True, **more)
    for cut in (data[:-500], data[:-995] + b"\xff" * 400):
        colours, alpha = images.decode_with_alpha(cut)
        assert np.array_equal(colours, SCENE) and np.array_equal(alpha, ALPHA)


def test_damaged_segments_of_cameras_do_not_cost_a_jpeg():
    broken = b"\xff\xe1\0\x40Exif\0\0II*\0" + b"\xff" * 50 + b"\xff\xe2\0\x20MPF\0II*\0" + b"\xff" * 22
    broken += b"\xff\xee\0\x08Adobe\0\xff\xed\0\x30Photoshop 3.0\x008BIM" + b"\xff" * 28 + b"\xff\xe0\0\x03J" + b"\xff\xfe\0\x02"
    assert np.array_equal(images.decode(PLAIN["JPEG"][:2] + broken + PLAIN["JPEG"][2:]), images.decode(PLAIN["JPEG"]))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("wrong", [{8: 0x0FFFFFF0}, {4: 0x7FFFFFFF}, {2: 99 << 16}, {2: 2 << 16}])
def test_no_tag_costs_a_tiff(wrong, compression):
    """Whatever its kind, its length and its place say."""
    tags = Image.Exif()
    tags.update({0x010E: "a description", 0x010F: "a camera", 0x02BC: b"<x:xmpmeta/>" * 9, 0x8298: "of somebody"})
    data = save(RGB, "TIFF", exif=tags, dpi=(300, 300), compression=compression)
    start = int.from_bytes(data[4:8], "little")
    for at in range(start + 2, start + 2 + 12 * data[start], 12):
        tag = int.from_bytes(data[at : at + 2], "little")
        if tag in (*tags, 0x011A, 0x011B, 0x0128):
            ((offset, number),) = wrong.items()
            new = (tag | number) if offset == 2 else number
            place = at + (0 if offset == 2 else offset)
            assert np.array_equal(images.decode(data[:place] + new.to_bytes(4, "little") + data[place + 4 :]), SCENE), (hex(tag), wrong)


@pytest.mark.parametrize("raw", [False, True])
def test_a_jpeg_2000_that_lacks_only_its_end_is_read(raw):
    data = save(RGB, "JPEG2000", no_jp2=raw)
    assert np.array_equal(images.decode(data[:-1]), SCENE) and np.array_equal(images.decode(data[:-2]), SCENE)
    for cut in (3, 50, len(data) // 2):
        with pytest.raises(images.PictureError, match="^damaged picture"):
            images.decode(data[:-cut])


@pytest.mark.parametrize("name", ["JPEG", "JPEG progressive", "JPEG CMYK", "JPEG grey", "JPEG orientation 6"])
def test_a_jpeg_that_lacks_only_its_end_is_read(name):
    data = PLAIN[name] if name in PLAIN else ODD[name][0]
    for cut in (data[:-2], data[:-1], data[:-2] + bytes(8)):
        assert np.array_equal(images.decode(cut), images.decode(data))


@pytest.mark.parametrize("name", ["JPEG", "JPEG progressive", "JPEG grey"])
def test_zeros_behind_a_jpeg_are_no_damage(name):
    """Cameras and programs that rescue files fill up with them."""
    data = PLAIN[name] if name in PLAIN else ODD[name][0]
    for filled in (data + bytes(5000), data[:-2] + bytes(5000)):
        assert np.array_equal(images.decode(filled), images.decode(data)) and damage.of_jpeg(filled) is None
    assert opening.with_end(data[:-2] + bytes(5000)) == data
    assert damage.of_jpeg(data[: len(data) // 2] + bytes(5000))


@pytest.mark.parametrize("name", ["JPEG", "JPEG progressive", "JPEG grey"])
def test_a_jpeg_that_lacks_pixels_is_refused(name):
    data = PLAIN[name] if name in PLAIN else ODD[name][0]
    for cut in (4, 20, len(data) // 3):
        with pytest.raises(images.PictureError, match="^damaged picture"):
            images.decode(data[:-cut])


def test_a_jpeg_2000_of_deep_colours_is_refused_and_grey_is_read():
    """Of which Pillow makes black where it is white."""
    data = save(RGB, "JPEG2000")
    sizes = data.index(b"\xff\x4f\xff\x51") + 42
    deep = data[:sizes] + data[sizes : sizes + 9].replace(b"\7", b"\x0f") + data[sizes + 9 :]
    assert np.array_equal(images.decode(data), SCENE)
    with pytest.raises(images.PictureError, match="^a JPEG 2000 of colours of more than 8 bit, which is not read; save it in 8 bit"):
        images.decode(deep)
    levels = np.arange(0, 65536, 257, dtype=np.uint16)[None].repeat(8, axis=0)
    assert np.array_equal(images.decode(save(Image.fromarray(levels), "JPEG2000", irreversible=False))[0, :, 0], np.arange(256))


# --- PNGs of every kind, against another reader


def as_seen(data: bytes) -> np.ndarray:
    width, height, rows, info = png.Reader(bytes=data).asDirect()
    values = np.array([list(row) for row in rows]).reshape(height, width, info["planes"]) * 255 / (2 ** info["bitdepth"] - 1)
    colours = values[..., :3] if info["planes"] > 2 else values[..., [0, 0, 0]]
    alpha = values[..., -1:] / 255 if info["alpha"] else 1
    return colours * alpha + 255 * (1 - alpha)


def pngs(bits: int, interlace: bool):
    """Of every colour type with so many bits, without and with what is transparent."""
    most, picture = 2**bits - 1, draw(5, 11, 13)
    rgb = np.rint(picture / 255 * most).astype(int)
    rgb = np.clip(rgb + np.random.default_rng(0).integers(-99, 99, rgb.shape), 0, most) if bits == 16 else rgb
    alpha = np.rint(np.linspace(0, most, 13)[None].repeat(11, axis=0)).astype(int)
    grey = rgb[..., 0]
    key = int(grey[3, 4])
    yield grey, {"greyscale": True}
    yield grey, {"greyscale": True, "transparent": key}
    yield grey, {"greyscale": True, "transparent": most - key}
    if bits <= 8:
        palette = np.random.default_rng(1).integers(0, 256, (2**bits, 4)).tolist()
        yield grey, {"palette": [tuple(colour[:3]) for colour in palette]}
        yield grey, {"palette": [tuple(colour) for colour in palette]}
    if bits >= 8:
        yield rgb, {"greyscale": False}
        yield rgb, {"greyscale": False, "transparent": tuple(map(int, rgb[3, 4]))}
        yield np.dstack([grey, alpha]), {"greyscale": True, "alpha": True}
        yield np.dstack([rgb, alpha]), {"greyscale": False, "alpha": True}


@pytest.mark.parametrize(("bits", "interlace"), [*itertools.product([1, 2, 4, 8, 16], [False, True])])
def test_every_kind_of_png_is_read_as_another_reader_does(bits, interlace):
    for values, options in pngs(bits, interlace):
        file = io.BytesIO()
        writer = png.Writer(values.shape[1], values.shape[0], bitdepth=bits, interlace=interlace, **options)
        writer.write_array(file, values.reshape(-1).tolist())
        if bits == 16 and isinstance(options.get("transparent"), tuple):
            with pytest.raises(images.PictureError, match="one colour is transparent, which is not read; save it with an alpha channel"):
                images.decode(file.getvalue())
        else:
            assert np.abs(images.decode(file.getvalue()) - as_seen(file.getvalue())).max() <= 1.5, options


def test_a_jpeg_that_no_decoder_of_ours_knows_is_named():
    """Of 12 bit, as medicine has them, and JPEG-LS."""
    imagecodecs = pytest.importorskip("imagecodecs")
    for data in (imagecodecs.jpeg_encode(np.uint16(SCENE) << 4, bitspersample=12), imagecodecs.jpegls_encode(SCENE)):
        with pytest.raises(images.PictureError, match="a JPEG that is damaged, or of a kind that is not read, of 12 bit say; save it"):
            images.decode(data)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colours", "bits"), [(0, 1), (0, 16), (2, 8), (3, 2), (6, 8)])
def test_a_png_whose_rows_end_early_is_damaged(colours, bits, interlaced):
    """Its data are whole, and of fewer rows than its header says: Pillow leaves the others black."""
    writer = png.Writer(
        21,
        13,
        greyscale=colours in (0, 4),
        alpha=colours == 6,
        bitdepth=bits,
        palette=[(9, 9, 9)] * 4 if colours == 3 else None,
        interlace=interlaced,
    )
    file = io.BytesIO()
    writer.write(file, [[1] * (21 * {0: 1, 2: 3, 3: 1, 6: 4}[colours])] * 13)
    whole = file.getvalue()
    assert images.size(whole) == (21, 13) and images.decode(whole).shape == (13, 21, 3)
    pixels = zlib.decompress(b"".join(content for kind, content, _ in chunks.of(whole) if kind == b"IDAT"))
    start = whole[: whole.index(b"IDAT") - 4]
    for less in (pixels[:-1], pixels[:50], pixels[: len(pixels) // 13 * 6]):
        data = start + png_chunk(b"IDAT", zlib.compress(less)) + png_chunk(b"IEND", b"")
        with pytest.raises(images.PictureError, match="^damaged picture"):
            images.decode(data)
    black = save(Image.new("RGB", (21, 13)), "PNG")
    assert not images.decode(black).any()


BMP_OF_OTHER_MASKS = b"BM" + struct.pack("<IIIIiiHHIIIIII3I", 70, 0, 66, 40, 1, 1, 1, 32, 3, 4, 0, 0, 0, 0, 1, 2, 4) + bytes(4)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (PLAIN["PNG"][:8], "damaged picture \\(what stands before its pixels\\)"),
        (BMP_OF_OTHER_MASKS, "a picture of a kind that is not read \\(Unsupported BMP bitfields layout\\); save it as a PNG"),
        (PLAIN["PNG"][:25] + b"\3" + PLAIN["PNG"][26:], "damaged picture \\("),
    ],
)
def test_what_is_wrong_is_said_in_words(data, words):
    with pytest.raises(images.PictureError, match=f"^{words}"):
        images.decode(data)
