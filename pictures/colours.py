"""The colours of a picture, in whatever numbers and by whatever profile they are stored, as 8-bit sRGB."""

import contextlib
import functools
import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageCms

from pictures import tiff
from pictures.opening import PictureError

SRGB = ImageCms.createProfile("sRGB")
SRGB_GAMMA = 1 / 2.2  # in a PNG stands for sRGB's curve; libpng passes over differences of 5 %, and so does this
SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # white, red, green, blue: x and y of each, as in a PNG
_PRIMARIES = {1: SRGB_PRIMARIES, 12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)}  # by their numbers in ITU-T H.273
_PRIMARIES |= {9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046), 11: (0.314, 0.351, *_PRIMARIES[12][2:])}
_PRIMARIES |= {5: (0.3127, 0.329, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06), 6: (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)}
_PRIMARIES |= {7: _PRIMARIES[6]}
_CURVES = {4: (2.2,), 5: (2.8,), 8: (1,), 13: (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)}  # see `matrix_profile`
_CURVES |= dict.fromkeys((1, 6, 14, 15), (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081))
_HDR = {16: "PQ", 18: "HLG"}
SAME = 2  # levels by which a profile of sRGB can differ from another, as their makers round
_ERRORS = (OSError, ValueError, ImageCms.PyCMSError)  # of a profile that is damaged, or not for this kind of picture


def in_srgb(picture: Image.Image) -> Image.Image:
    """A decoded picture of any mode → RGB, or RGBA if it is transparent anywhere. Raises `PictureError` if it holds no number."""
    if picture.mode == "LAB":
        return ImageCms.profileToProfile(picture, ImageCms.createProfile("LAB"), SRGB, outputMode="RGB")
    profile, is_tiff, format = profile_of(picture), picture.format == "TIFF", picture.format
    if is_tiff and (problem := tiff.misread(picture)):
        raise PictureError(problem)
    if picture.mode.startswith("I") or picture.mode == "F" or is_tiff and picture.mode == "L" and tiff.is_signed(picture):
        # convert() would clip these
        grey = _deep_grey(picture)
        key = picture.info.get("transparency")
        alpha = Image.fromarray(np.uint8(255) * (np.asarray(picture) != key)) if isinstance(key, int) else None
    else:
        if is_tiff and picture.mode == "P":
            tiff.mend_palette(picture)
        if format == "JPEG" and picture.mode == "CMYK" and "adobe" not in picture.info:  # only Adobe means the opposite, Pillow always
            picture = ImageChops.invert(picture)
        picture = picture.convert("LA") if picture.mode == "La" else picture  # of which Pillow makes nothing else
        alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
        if alpha and format in ("BMP", "TGA") and not alpha.getextrema()[1]:  # nobody means that nothing is seen
            alpha = None
        grey = np.asarray(picture.convert("L")) if picture.mode in ("1", "L", "LA") else None
    if grey is not None:
        picture = Image.fromarray(_grey_in_srgb(grey, profile))
    else:
        if picture.mode not in ("RGB", "CMYK"):
            picture = picture.convert("RGB")
        if profile:
            with contextlib.suppress(*_ERRORS):  # it shows as without
                picture = ImageCms.profileToProfile(picture, _opened(profile), SRGB, outputMode="RGB")
        picture = picture.convert("RGB")
    if alpha:
        picture.putalpha(alpha)
    return picture


def profile_of(picture: Image.Image) -> bytes | None:
    """The ICC profile by which a picture's colours are to be read, if that changes them. A PNG can say the same otherwise.

    Raises `PictureError` for colours that no profile converts.
    """
    info = picture.info
    data = _of_codes(*info["codes"]) if "codes" in info else None
    data = data or info.get("icc_profile")
    if not data and picture.format == "PNG" and 0.01 < info.get("gamma", 0) < 100 and "srgb" not in info:
        gamma, primaries = info["gamma"], info.get("chromaticity", SRGB_PRIMARIES)
        if np.allclose(primaries, SRGB_PRIMARIES, atol=0.005) and abs(gamma / SRGB_GAMMA - 1) < 0.05:
            return None
        with contextlib.suppress(ValueError, ZeroDivisionError, np.linalg.LinAlgError, struct.error):  # numbers that mean nothing
            data = matrix_profile((1 / gamma,), primaries)
    return data if data and not _is_srgb(data) else None


def _of_codes(primaries: int, curve: int, full_range: bool) -> bytes | None:
    """An ICC profile by numbers, see `opening`; None for those that say nothing. Raises `PictureError` as `profile_of`."""
    if curve in _HDR:
        raise PictureError(f"a picture in HDR ({_HDR[curve]}), which is not read; save it in SDR, as sRGB")
    if not full_range:
        raise PictureError("a PNG of narrow range, in which black is 16, which is not read; save it in full range, as sRGB")
    return matrix_profile(_CURVES[curve], _PRIMARIES[primaries]) if curve in _CURVES and primaries in _PRIMARIES else None


@functools.lru_cache(maxsize=32)  # pictures of one camera have one profile
def _is_srgb(profile: bytes) -> bool:
    """Tells by its effect, as names say little, whether a profile of colours is that of sRGB; one that cannot be read counts as such."""
    levels = np.uint8([0, 1, 3, 7, 15, 31, 63, 95, 127, 159, 191, 223, 255])
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    try:
        opened = _opened(profile)
        if profile[16:20] != b"RGB ":
            return False
        seen = np.asarray(ImageCms.profileToProfile(Image.fromarray(colours), opened, SRGB, outputMode="RGB"))
    except _ERRORS:
        return True
    return int(np.abs(seen.astype(np.int16) - colours).max()) <= SAME


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def _grey_in_srgb(grey: np.ndarray, profile: bytes | None) -> np.ndarray:
    """Grey of 8 or 16 bit, (H, W) → uint8 (H, W, 3)."""
    ramp = np.arange(np.iinfo(grey.dtype).max + 1).astype(grey.dtype)
    table = np.repeat(np.uint8(np.rint(ramp * (255 / ramp[-1])))[:, np.newaxis], 3, axis=1)
    if profile:
        if profile[16:20] == b"RGB ":  # grey has its curve, too
            tags = 128 + 4 + 12 * int.from_bytes(profile[128:132], "big")
            profile = profile[:16] + b"GRAY" + profile[20:128] + profile[128:tags].replace(b"gTRC", b"kTRC") + profile[tags:]
        with contextlib.suppress(*_ERRORS):  # it shows as without; optimized, lcms would leave dark levels off by ten
            exact = ImageCms.Flags.NOOPTIMIZE
            seen = ImageCms.profileToProfile(Image.fromarray(ramp[np.newaxis]), _opened(profile), SRGB, outputMode="RGB", flags=exact)
            table = np.asarray(seen)[0]
    return table[grey]


def _deep_grey(picture: Image.Image) -> np.ndarray:
    """Grey of 16 or 32 bit or floating point → uint16 (H, W).

    Floating point can mean that white is 1, 255 or 65535: it is the least of these that half of the positive numbers do not exceed, and
    the largest number if there is none. Brighter ones are clipped. What is no number becomes black; `PictureError` if all of it is that.
    """
    grey, white = tiff.grey(picture) if picture.format == "TIFF" else (np.asarray(picture), 65535)
    if picture.mode == "F":
        grey = grey.astype(np.float64)
        finite = grey[np.isfinite(grey)]
        if not finite.size:
            raise PictureError("none of its values is a finite number")
        typical = np.median(finite[finite > 0]) if (finite > 0).any() else 0
        white = float(next((white for white in (1, 255, 65535) if typical <= white), finite.max()))
        grey = np.nan_to_num(grey, posinf=white, neginf=0)
    return np.clip(np.rint(grey * (65535 / white)), 0, 65535).astype(np.uint16)


def matrix_profile(curve: Sequence[float], primaries: Sequence[float]) -> bytes:
    """An ICC profile by its curve, and x and y of white, red, green and blue. Raises `ValueError` or the like if there is no such.

    The curve is a gamma, or ICC's g, a, b, c, d: (a·v + b)^g from d on, and c·v below.
    """
    xy = np.array(primaries, np.float64).reshape(4, 2)
    if not xy[:, 1].all():
        raise ValueError("a colour without brightness")
    white, *colours = (np.array([x, y, 1 - x - y]) / y for x, y in xy)
    colours = np.stack(colours, 1)
    colours = colours * np.linalg.solve(colours, white)  # together they give white
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1, 0.8249])  # the white of all profiles
    colours = np.linalg.solve(bradford, np.diag((bradford @ d50) / (bradford @ white)) @ bradford @ colours)

    def numbers(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))

    curve = b"para" + struct.pack(">IHH", 0, {1: 0, 5: 3}[len(curve)], 0) + numbers(*curve)
    text = b"desc" + bytes(4) + struct.pack(">I", 4) + b"PNG\0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text" + bytes(8), b"wtpt": b"XYZ " + bytes(4) + numbers(*d50)}
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    tags |= {kind: b"XYZ " + bytes(4) + numbers(*colour) for kind, colour in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colours.T, strict=True)}
    table, data = struct.pack(">I", len(tags)), b""
    for kind, content in tags.items():
        table += kind + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    start = bytes(4) + struct.pack(">I", 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + numbers(*d50) + bytes(48)
    return struct.pack(">I", 128 + len(table) + len(data)) + start + table + data
