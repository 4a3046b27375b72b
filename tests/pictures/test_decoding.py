"""Records and the served signature show every picture as Pillow does, which everything else reads pictures with."""

import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw
from PIL import Image

from pictures import cutouts, decoding, images, storing
from pictures.records import from_record, to_record
from reader import Reader

RGB = Image.fromarray(draw(0, 20, 33))
GREY, FLAT, KEY = RGB.convert("L"), RGB.quantize(16), RGB.quantize(16).getpixel((0, 0))
RGBA, HOLE = RGB.copy(), Image.new("RGBA", (20, 20), (200, 30, 0, 0))
RGBA.putalpha(Image.fromarray(np.uint8(np.arange(20 * 33).reshape(20, 33) // 2 - 30)))  # 226 … 255, 0 … 255, 0 … 43
HOLE.paste((0, 0, 0, 255), (5, 5, 12, 12))


def file(picture: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def with_own_palette(gif: bytes, others: bytes = b"") -> bytes:
    """A GIF whose palette becomes its first frame's, and `others`, of as many colours, that of the whole."""
    size = 6 << (gif[10] & 7)
    frame = gif.index(b",\0\0\0\0", 13 + size)
    start = gif[:10] + bytes([gif[10] if others else gif[10] & 0x7F]) + gif[11:13] + others[:size]
    own = gif[frame : frame + 9] + bytes([gif[frame + 9] | 0x80 | gif[10] & 7]) + gif[13 : 13 + size]
    return start + gif[13 + size : frame] + own + gif[frame + 10 :]


def deep(*shape: int) -> bytes:
    """A PNG of 16 bit, by TensorFlow: Pillow writes grey only."""
    return tf.io.encode_png(np.random.default_rng(0).integers(0, 1 << 16, shape, np.uint16)).numpy()


FILES = {
    **{f"JPEG of quality {q}": file(RGB, "JPEG", quality=q, subsampling=s) for q, s in ((75, "4:2:0"), (90, "4:2:2"), (100, "4:4:4"))},
    "JPEG progressive": file(RGB, "JPEG", progressive=True),
    "JPEG grey": file(GREY, "JPEG"),
    "JPEG CMYK": file(RGB.convert("CMYK"), "JPEG"),
    "PNG": file(RGB, "PNG"),
    "PNG grey": file(GREY, "PNG"),
    "PNG of 1 bit": file(RGB.convert("1"), "PNG"),
    "PNG of 1 bit, black transparent": file(RGB.convert("1"), "PNG", transparency=0),
    "PNG palette": file(FLAT, "PNG"),
    "PNG palette, one transparent": file(FLAT, "PNG", transparency=KEY),
    "PNG palette, more or less transparent": file(FLAT, "PNG", transparency=bytes(range(0, 160, 10))),
    "PNG grey, one transparent": file(GREY, "PNG", transparency=GREY.getpixel((0, 0))),
    "PNG, one transparent": file(FLAT.convert("RGB"), "PNG", transparency=FLAT.convert("RGB").getpixel((0, 0))),
    "PNG alpha": file(RGBA, "PNG"),
    "PNG grey and alpha": file(RGBA.convert("LA"), "PNG"),
    "PNG alpha, nothing to see": file(Image.new("RGBA", (5, 6), (9, 9, 9, 0)), "PNG"),
    "PNG of one pixel": file(Image.new("RGBA", (1, 1), (9, 9, 9, 99)), "PNG"),
    **{f"PNG of 16 bit, {n} channels": deep(6, 7, n) for n in (1, 2, 3, 4)},
    "GIF": file(FLAT, "GIF"),
    "GIF with black on transparent": file(HOLE, "GIF"),
    "GIF transparent, animated": file(FLAT, "GIF", transparency=KEY, save_all=True, append_images=[FLAT.rotate(180)]),
    "GIF of rows out of order": file(FLAT, "GIF", interlace=1),
    "GIF transparent, after a comment": file(FLAT, "GIF", transparency=KEY, comment=b", and! so on" * 99),
    "GIF transparent, disposed of": file(FLAT, "GIF", transparency=KEY, disposal=2, save_all=True, append_images=[FLAT.rotate(180)]),
    "GIF whose frame has a palette": with_own_palette(file(FLAT, "GIF")),
    "GIF transparent, whose frame has a palette": with_own_palette(file(FLAT, "GIF", transparency=KEY)),
    "GIF transparent, of two palettes": with_own_palette(file(FLAT, "GIF", transparency=KEY), bytes(range(48))),
    "GIF of which less is shown": b"GIF89a" + bytes([30, 0, 18, 0]) + file(FLAT, "GIF")[10:],
    "BMP": file(RGB, "BMP"),
    "BMP grey": file(GREY, "BMP"),
    "BMP palette": file(FLAT, "BMP"),
    "BMP of 32 bit": file(RGBA, "BMP"),
    "WebP": file(RGB, "WEBP"),
}


@pytest.fixture(scope="module")
def decode():
    function = tf.function(decoding.decode, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    return lambda data: [tensor.numpy() for tensor in function(data)]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_decoded_as_by_pillow(decode, name):
    """To the bit, its alpha as well."""
    colours, alpha = decode(FILES[name])
    whole = np.broadcast_to(alpha, (*colours.shape[:2], 1))
    seen = Image.alpha_composite(Image.new("RGBA", whole.shape[1::-1], "white"), Image.fromarray(np.dstack([colours, whole])))
    assert np.array_equal(seen.convert("RGB"), images.decode(FILES[name]))
    _, expected = images.decode_with_alpha(FILES[name])
    assert (alpha[..., 0] == (255 if expected is None else expected)).all()
    assert ("transparent" in name or "alpha" in name or name == "PNG of one pixel") <= bool(decoding.has_alpha(alpha))


def test_a_bitmap_of_32_bit_is_transparent_if_its_header_says_so(decode):
    def bitmap(mask: int) -> bytes:
        numbers = [108, 1, 1, 1 | 32 << 16, 3, 4, 0, 0, 0, 0, 0xFF0000, 0xFF00, 0xFF, mask]  # Pillow writes none
        header = np.uint32(numbers).tobytes() + bytes(52)
        return b"BM" + np.uint32([0, 0, 14 + 108]).tobytes() + header + bytes([10, 20, 30, 128])

    assert [array.tolist() for array in decode(bitmap(0xFF000000))] == [[[[30, 20, 10]]], [[[128]]]]
    assert [array.tolist() for array in decode(bitmap(0))] == [[[[30, 20, 10]]], [[[255]]]]
    other = bitmap(0).replace(np.uint32([0xFF0000, 0xFF00, 0xFF]).tobytes(), np.uint32([0xFF, 0xFF00, 0xFF0000]).tobytes())
    with pytest.raises(tf.errors.InvalidArgumentError, match="colours are in another order.*save it as a PNG"):
        decode(other)


ANIMATED = file(FLAT, "GIF", save_all=True, append_images=[FLAT.rotate(180)])


@pytest.mark.parametrize("gif", [FILES["GIF"], ANIMATED, FILES["GIF transparent, of two palettes"]])
def test_a_gif_that_its_first_frame_does_not_fill_is_an_error(decode, gif):
    """TensorFlow would show that frame, or black around it."""
    frame = gif.index(b",\0\0\0\0", 13) + 1
    for data in (
        gif[:6] + bytes([34, 0, 20, 0]) + gif[10:],
        gif[:6] + bytes([33, 0, 21, 0]) + gif[10:],
        *(gif[: frame + i] + b"\1" + gif[frame + i + 1 :] for i in (0, 2)),
    ):
        assert images.decode(data).shape[:2] in ((20, 34), (21, 33))
        with pytest.raises(tf.errors.InvalidArgumentError, match="first frame does not fill it.*save it as a PNG"):
            decode(data)


@pytest.mark.parametrize(
    "data", [b"", b"BM", b"GIF8", b"\x89PNG", b"\xff\xd8\xff", b"<svg/>", FILES["GIF"][:40], FILES["GIF"][:70], FILES["BMP palette"][:60]]
)
def test_what_is_no_picture_is_an_error(decode, data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(data)


def test_a_network_sees_a_transparent_picture_as_by_the_command():
    specs = [tf.TensorSpec((None, None, n), tf.uint8) for n in (3, 1)]
    continued, rng = tf.function(decoding.continued, input_signature=specs, autograph=False), np.random.default_rng(0)
    for shape, some in itertools.product([(9, 13), (1, 1), (1, 7), (16, 5), (33, 2)], (0, 0.02, 0.3, 1)):
        colours, alpha = rng.integers(0, 256, (*shape, 3), np.uint8), np.uint8(rng.integers(1, 256, shape) * (rng.random(shape) < some))
        expected, _ = cutouts.resize(colours, alpha, *shape)
        assert np.array_equal(continued(colours, alpha[..., np.newaxis]), expected)


@pytest.mark.parametrize("name", FILES)
def test_a_record_shows_what_networks_see_in_use(tmp_path, decode, name):
    (tmp_path / "a").write_bytes(FILES[name])
    (stored,), _ = storing.whole(0)(FILES[name], "a")
    shown = from_record(tf.constant(to_record("a", stored)))[1].numpy()
    served = decoding.continued(*map(tf.constant, decode(FILES[name]))).numpy()
    assert np.array_equal(served, cutouts.read(tmp_path / "a"))
    loses = name in ("JPEG CMYK", "WebP")  # stored anew as a JPEG, of one as well
    assert np.abs(shown - served.astype(int)).mean() < 2 if loses else np.array_equal(shown, served)


def test_a_reader_decodes_as_it_is_told(tmp_path):
    data = file(RGB.crop((0, 0, 20, 20)), "JPEG", quality=100, subsampling="4:4:4")
    with tf.io.TFRecordWriter(str(tmp_path / "r")) as writer:
        writer.write(to_record("a", data))
    exact, fast = images.decode(data), tf.io.decode_image(data).numpy()
    assert (exact != fast).any()
    for more, expected in (({}, exact), ({"decoder": "fast"}, fast)):
        (x,) = next(iter(Reader(tmp_path / "r", 20, **more).feed())).numpy()
        shown = np.rint((x + 1) * 127.5)
        assert any(np.array_equal(shown, way) for way in (expected, expected[:, ::-1]))
