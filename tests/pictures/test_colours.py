"""Colours are converted by what their profile does, not by what it is called."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from conftest import draw
from photos import LOSSY, SCENE, SRGB_PROFILE, SWAPPED_PROFILE, difference, png, png_chunk, save
from PIL import Image, ImageCms

from pictures import colours, decoding, images

RAMP = np.arange(256, dtype=np.uint8)[None].repeat(3, axis=0)
ADOBE = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)  # white, red, green, blue


def encoded(linear: np.ndarray) -> np.ndarray:
    """sRGB's levels of linear light."""
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def profile(gamma: float, name: str, grey: bool = False) -> bytes:
    """An ICC profile by hand, with sRGB's primaries or of grey, called `name`."""

    def numbers(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))

    curve = b"para" + bytes(8) + numbers(gamma)
    words = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name.encode() + bytes(79)
    tags = {b"desc": words, b"cprt": b"text" + bytes(8), b"wtpt": b"XYZ " + bytes(4) + numbers(0.9642, 1, 0.8249)}
    if grey:
        tags[b"kTRC"] = curve
    else:
        primaries = {b"r": (0.43607, 0.22249, 0.01392), b"g": (0.38515, 0.71687, 0.09708), b"b": (0.14307, 0.06061, 0.71410)}
        for kind, xyz in primaries.items():
            tags |= {kind + b"TRC": curve, kind + b"XYZ": b"XYZ " + bytes(4) + numbers(*xyz)}
    table, data = struct.pack(">I", len(tags)), b""
    for kind, content in tags.items():
        table += kind + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    space = b"GRAY" if grey else b"RGB "
    start = bytes(4) + struct.pack(">I", 0x02400000) + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    return struct.pack(">I", 128 + len(table) + len(data)) + start + numbers(0.9642, 1, 0.8249) + bytes(48) + table + data


def of_colours(format: str, levels: np.ndarray, **options) -> bytes:
    options |= {"quality": 100} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}
    return save(Image.fromarray(np.repeat(levels[..., None], 3, axis=2)), format, **options)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_a_profile_that_is_called_srgb_and_is_not_is_converted(format, gamma):
    data = of_colours(format, RAMP, icc_profile=profile(gamma, "GIMP built-in Linear sRGB"))
    assert not images.is_plain(data)
    assert np.abs(images.decode(data) - encoded((RAMP / 255) ** gamma)[..., None]).max() <= 1.01


def test_a_profile_that_is_srgb_changes_nothing_whatever_it_is_called():
    name, other = (f"{letter}RGB".encode("utf-16-be") for letter in "sq")
    assert name in SRGB_PROFILE
    data = save(Image.fromarray(SCENE), "PNG", icc_profile=SRGB_PROFILE.replace(name, other))
    assert images.is_plain(data) and np.array_equal(images.decode(data), SCENE)


@pytest.mark.parametrize("grey", [True, False])
def test_grey_of_every_depth_has_its_profile(grey):
    """Dark levels of linear light are far apart: there 8 bit is not enough on the way."""
    linear = profile(1.0, "linear", grey)
    deep = np.arange(0, 65536, 37, dtype=np.uint16)[None]
    assert np.abs(images.decode(save(Image.fromarray(deep), "PNG", icc_profile=linear)) - encoded(deep / 65535)[..., None]).max() <= 0.6
    assert np.abs(images.decode(save(Image.fromarray(deep), "TIFF", icc_profile=linear)) - encoded(deep / 65535)[..., None]).max() <= 0.6
    floating = np.linspace(0, 1, 999, dtype=np.float32)[None]
    found = images.decode(save(Image.fromarray(floating), "TIFF", icc_profile=linear))
    assert np.abs(found - encoded(floating)[..., None]).max() <= 0.7
    for format in ("PNG", "TIFF"):
        found = images.decode(save(Image.fromarray(RAMP), format, icc_profile=linear))
        assert np.abs(found - encoded(RAMP / 255)[..., None]).max() <= 0.6
    alpha = Image.fromarray(np.dstack([RAMP, np.full_like(RAMP, 255)]))
    assert np.abs(images.decode(save(alpha, "PNG", icc_profile=linear)) - encoded(RAMP / 255)[..., None]).max() <= 0.6


def test_a_profile_of_another_kind_of_picture_or_a_damaged_one_changes_nothing():
    for data in (profile(1.0, "linear", grey=True), SWAPPED_PROFILE[:200], SWAPPED_PROFILE[:-300], b"", b"profile" * 99):
        assert np.array_equal(images.decode(save(Image.fromarray(SCENE), "PNG", icc_profile=data)), SCENE)


# --- gamma and primaries of a PNG


def with_chunks(values: np.ndarray, bits: int, kind: int, *chunks: tuple[bytes, bytes]) -> bytes:
    data = png((values.shape[1], values.shape[0], bits, kind, 0, 0, 0), values.astype(">u2" if bits == 16 else np.uint8))
    return data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]


def gamma_chunk(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(gamma * 100_000))


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8, 0.35])
def test_gamma_is_converted_where_nothing_better_is_known(gamma):
    rgb = np.repeat(RAMP[..., None], 3, axis=2)
    expected = encoded((RAMP / 255) ** (1 / gamma))[..., None]
    for data in (
        with_chunks(rgb, 8, 2, gamma_chunk(gamma)),
        with_chunks(RAMP, 8, 0, gamma_chunk(gamma)),
        with_chunks(RAMP.astype(np.uint16) * 257, 16, 0, gamma_chunk(gamma)),
    ):
        assert np.abs(images.decode(data) - expected).max() <= 1.01 and not images.is_plain(data)
    for better in ((b"sRGB", b"\0"), None):
        data = with_chunks(rgb, 8, 2, *([better] if better else []), gamma_chunk(gamma))
        data = data if better else save(Image.open(io.BytesIO(data)), "PNG", icc_profile=SRGB_PROFILE)
        assert np.array_equal(images.decode(data), rgb) and images.is_plain(data)


@pytest.mark.parametrize("gamma", [0.45455, 0.45, 0.0, 40_000])
def test_gamma_of_srgb_or_without_meaning_changes_nothing(gamma):
    data = with_chunks(SCENE, 8, 2, gamma_chunk(gamma))
    assert np.array_equal(images.decode(data), SCENE) and images.is_plain(data)


def test_primaries_of_a_png_are_converted():
    """Against matrices from the literature, with the same white."""
    to_xyz = [[0.5767309, 0.1855540, 0.1881852], [0.2973769, 0.6273491, 0.0752741], [0.0270343, 0.0706872, 0.9911085]]
    to_srgb = [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
    picture, chunk = draw(4, 20, 30), (b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in ADOBE)))
    linear = (picture / 255) ** 2.2 @ np.transpose(to_xyz) @ np.transpose(to_srgb)
    found = images.decode(with_chunks(picture, 8, 2, gamma_chunk(1 / 2.2), chunk))
    assert np.abs(found - encoded(np.clip(linear, 0, 1))).max() <= 1.01
    assert np.array_equal(images.decode(with_chunks(picture, 8, 2, gamma_chunk(1 / 2.2), (b"cHRM", bytes(32)))), picture)
    assert np.array_equal(images.decode(with_chunks(picture, 8, 2, chunk)), picture)  # of which no gamma is known


# Red, green, blue and white of a picture's own colours, as light, by the columns of their primaries (x, y) in ITU-T H.273.
WIDE = {9: ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046)), 12: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))}
WIDE |= {1: ((0.64, 0.33), (0.3, 0.6), (0.15, 0.06))}


def light(curve: int, v: np.ndarray) -> np.ndarray:
    if curve == 8:
        return v
    if curve == 13:
        return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))


def to_xyz(primaries: int) -> np.ndarray:
    """Light of these primaries → XYZ, with the white that all of them have, D65."""
    xyz = np.array([(x / y, 1, (1 - x - y) / y) for x, y in WIDE[primaries]]).T
    return xyz * np.linalg.solve(xyz, [0.3127 / 0.329, 1, (1 - 0.3127 - 0.329) / 0.329])


def expected_of(picture: np.ndarray, primaries: int, curve: int) -> np.ndarray:
    linear = light(curve, picture / 255) @ (np.linalg.solve(to_xyz(1), to_xyz(primaries))).T
    return encoded(np.clip(linear, 0, 1))


def cicp(*codes: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes(codes)


@pytest.mark.parametrize(("primaries", "curve"), [(12, 13), (9, 14), (9, 13), (12, 8), (1, 8), (1, 1)])
def test_a_png_that_says_its_colours_as_video_does_is_converted(primaries, curve):
    """Against the formulas of ITU-T H.273; it counts before all else that a PNG says."""
    picture = draw(4, 20, 30)
    others = [gamma_chunk(1.0), (b"sRGB", b"\0"), (b"iCCP", b"x\0\0" + zlib.compress(SRGB_PROFILE))]
    for more in ([], *([other] for other in others)):
        data = with_chunks(picture, 8, 2, cicp(primaries, curve, 0, 1), *more)
        assert np.abs(images.decode(data) - expected_of(picture, primaries, curve)).max() <= 1.5 and not images.is_plain(data)
    data = with_chunks(RAMP, 8, 0, cicp(primaries, curve, 0, 1))
    assert np.abs(images.decode(data) - encoded(light(curve, RAMP / 255))[..., None]).max() <= 1.01


@pytest.mark.parametrize("chunk", [cicp(1, 13, 0, 1), cicp(2, 2, 0, 1), cicp(200, 13, 0, 1), (b"cICP", b"12")])
def test_what_says_srgb_or_nothing_changes_nothing(chunk):
    data = with_chunks(SCENE, 8, 2, chunk)
    assert np.array_equal(images.decode(data), SCENE) and images.is_plain(data)


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ((9, 16, 0, 1), "in HDR (PQ), which is not read; save it in SDR"),
        ((2, 18, 0, 1), "in HDR (HLG)"),
        ((1, 13, 0, 0), "of narrow range"),
    ],
)
def test_what_no_profile_converts_is_named(codes, words):
    for look in (images.decode, images.is_plain):
        with pytest.raises(images.PictureError, match=re.escape(words)):
            look(with_chunks(SCENE, 8, 2, cicp(*codes)))


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
def test_so_is_a_picture_of_the_formats_that_are_videos(format):
    plain = of_numbers(format, 1, 13)
    shown = images.decode(plain)
    assert difference(shown, SCENE) < LOSSY
    for primaries, curve in ((5, 6), (1, 1), (2, 2)):  # as phones write them, who mean sRGB
        assert np.array_equal(images.decode(of_numbers(format, primaries, curve)), shown)
    for primaries in (9, 12):
        assert np.abs(images.decode(of_numbers(format, primaries, 13)) - expected_of(shown, primaries, 13)).max() <= 1.5
    with pytest.raises(images.PictureError, match="in HDR"):
        images.decode(of_numbers(format, 9, 16))


def of_numbers(format: str, primaries: int, curve: int) -> bytes:
    if format == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = save(Image.fromarray(SCENE), format, quality=95)
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, curve) + data[at + 4 :]


def test_the_profile_that_is_made_of_them_is_one():
    opened = ImageCms.ImageCmsProfile(io.BytesIO(colours.matrix_profile((2.2,), colours.SRGB_PRIMARIES)))
    assert ImageCms.getProfileName(opened).strip() == "PNG"
    found = [opened.profile.red_primary[1][:2], opened.profile.green_primary[1][:2], opened.profile.blue_primary[1][:2]]
    known = ImageCms.ImageCmsProfile(io.BytesIO(SRGB_PROFILE)).profile
    assert np.allclose(found, [known.red_primary[1][:2], known.green_primary[1][:2], known.blue_primary[1][:2]], atol=2e-3)


def test_gamma_behind_the_pixels_counts_for_nothing():
    data = with_chunks(SCENE, 8, 2)
    assert np.array_equal(images.decode(data[:-12] + png_chunk(*gamma_chunk(1.0)) + data[-12:]), SCENE)


def test_ink_is_as_much_as_is_said_where_adobe_says_nothing():
    """Adobe's programs, and those that say they are such, store what is left of the paper."""
    ink = np.repeat(np.uint8([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]]]), 16, axis=1).repeat(
        16, axis=0
    )
    shown = np.uint8([[255] * 3, [0, 255, 255], [255, 0, 255], [255, 255, 0], [0] * 3]).repeat(16, axis=0)
    adobe = save(Image.fromarray(ink, "CMYK"), "JPEG", quality=100)
    at = adobe.index(b"\xff\xee")
    others = save(Image.fromarray(255 - ink, "CMYK"), "JPEG", quality=100)
    others = others[:at] + others[at + 16 :]
    assert b"Adobe" in adobe and b"Adobe" not in others
    for data in (adobe, others):
        assert np.abs(images.decode(data) - shown.astype(int)).max() <= 3


@pytest.mark.parametrize("format", ["BMP", "TGA"])
def test_a_bitmap_of_which_nothing_would_be_seen_is_opaque(format):
    rgba = np.dstack([SCENE, np.zeros_like(SCENE[..., 0])])
    data = save(Image.fromarray(rgba), format)
    if format == "BMP":
        masks = np.uint32([108, 56, 40, 1 | 32 << 16, 3, 0, 0, 0, 0, 0, 0xFF0000, 0xFF00, 0xFF, 0xFF000000]).astype("<u4")
        masks[1], masks[2] = SCENE.shape[1], SCENE.shape[0]
        pixels = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
        data = b"BM" + struct.pack("<3I", 14 + 108 + len(pixels), 0, 14 + 108) + masks.tobytes() + bytes(52) + pixels
    colours_, alpha = images.decode_with_alpha(data)
    assert np.array_equal(colours_, SCENE) and alpha is None
    if format == "BMP":
        served, its_alpha = decoding.decode(data)
        assert np.array_equal(served, SCENE) and not decoding.has_alpha(its_alpha)
