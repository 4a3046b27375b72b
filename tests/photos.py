"""One scene as every kind of picture file that people have, and files that are damaged."""

import io
import struct
import zlib

import numpy as np
from conftest import draw
from PIL import Image, ImageCms

SCENE = draw(3, 40, 56)
RGB = Image.fromarray(SCENE)
FLAT = RGB.quantize(16)  # the scene in 16 colours, which a palette holds exactly
FLAT_RGB = np.asarray(FLAT.convert("RGB"))
GREY = RGB.convert("L")
GREY_RGB = np.repeat(np.asarray(GREY)[..., None], 3, axis=2)
ALPHA = np.uint8(np.linspace(0, 255, 56)[None].repeat(40, axis=0))  # transparent at the left
RGBA = Image.fromarray(np.dstack([SCENE, ALPHA]))
OVER_WHITE = 255 + (SCENE - 255.0) * ALPHA[..., None] / 255
KEY = FLAT_RGB[0, 0]
KEYED = np.where((FLAT_RGB == KEY).all(-1, keepdims=True), 255, FLAT_RGB)  # with this colour transparent
OTHER = Image.fromarray(draw(4, 40, 56))
LAB = ImageCms.profileToProfile(RGB, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")


def save(picture: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    picture.copy().save(file, format, **options)  # saving leaves its options in a picture
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(header: tuple, rows: np.ndarray) -> bytes:
    """A PNG by hand: Pillow writes no colours of 16 bit."""
    pixels = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *header)), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png16(picture: Image.Image, colour_type: int) -> bytes:
    return png((56, 40, 16, colour_type, 0, 0, 0), (np.asarray(picture).astype(np.uint16) * 257).astype(">u2"))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "a camera", orientation
    return tags


def swapped_profile() -> bytes:
    """An ICC profile by hand: sRGB's curve and primaries, but red is green, and green red."""
    red, green, blue = (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)
    levels = np.arange(1024) / 1023
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    curve = b"curv" + bytes(4) + struct.pack(">I1024H", 1024, *np.rint(65535 * linear).astype(int))

    def xyz(*values: float) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in values))

    name = b"desc" + bytes(4) + struct.pack(">I", 8) + b"Swapped\0" + bytes(78)
    tags = {b"rXYZ": xyz(*green), b"gXYZ": xyz(*red), b"bXYZ": xyz(*blue), b"wtpt": xyz(0.9642, 1, 0.8249), b"desc": name}
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"cprt": b"text" + bytes(4) + b"none\0\0\0\0"}
    table, data = struct.pack(">I", len(tags)), b""
    for kind, content in tags.items():
        table += kind + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = bytes(8) + struct.pack(">I", 0x02100000) + b"mntrRGB XYZ " + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return struct.pack(">I", 132 + len(table) - 4 + len(data)) + header[4:] + table + data


SWAPPED_PROFILE, SWAPPED = swapped_profile(), SCENE[..., [1, 0, 2]]
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ROTATIONS = {  # what a camera stores, by its EXIF orientation: the scene as seen from its row 0 and column 0
    2: SCENE[:, ::-1],
    3: SCENE[::-1, ::-1],
    4: SCENE[::-1],
    5: SCENE.swapaxes(0, 1),
    6: np.rot90(SCENE),
    7: np.rot90(SCENE, 2).swapaxes(0, 1),
    8: np.rot90(SCENE, -1),
}
TURNED_JPEG = save(Image.fromarray(ROTATIONS[6]), "JPEG", quality=95, exif=exif(6))
LATE_EXIF = png_chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0"))

PLAIN = {  # need no conversion
    "JPEG": save(RGB, "JPEG", quality=95),
    "JPEG progressive": save(RGB, "JPEG", quality=95, progressive=True),
    "JPEG upright": save(RGB, "JPEG", quality=95, exif=exif(1)),
    "JPEG with damaged EXIF": save(RGB, "JPEG", quality=95, exif=exif(6)).replace(b"Exif\0\0MM", b"Exif\0\0XX"),
    "JPEG with sRGB's profile": save(RGB, "JPEG", quality=95, icc_profile=SRGB_PROFILE),
    "JPEG with a damaged profile": save(RGB, "JPEG", quality=95, icc_profile=SWAPPED_PROFILE[:200]),
    "PNG": save(RGB, "PNG"),
    "PNG upright": save(RGB, "PNG", exif=exif(1)),
}
LOSSY = 3.0  # mean difference of 255
ODD = {  # name: file, what it shows, mean difference
    **{f"JPEG orientation {o}": (save(Image.fromarray(p), "JPEG", quality=95, exif=exif(o)), SCENE, LOSSY) for o, p in ROTATIONS.items()},
    **{f"PNG orientation {o}": (save(Image.fromarray(p), "PNG", exif=exif(o)), SCENE, 0) for o, p in ROTATIONS.items()},
    "JPEG orientation beside damaged EXIF": (TURNED_JPEG.replace(b"\x01\x0f\0\x02\0\0\0", b"\x01\x0f\0\x02\0\0\x7f"), SCENE, LOSSY),
    "PNG orientation after the pixels": (save(Image.fromarray(ROTATIONS[6]), "PNG")[:-12] + LATE_EXIF + png_chunk(b"IEND", b""), SCENE, 0),
    "WebP orientation": (save(Image.fromarray(ROTATIONS[6]), "WEBP", lossless=True, exif=exif(6)), SCENE, 0),
    "TIFF orientation": (save(Image.fromarray(ROTATIONS[6]), "TIFF", exif=exif(6)), SCENE, 0),
    "JPEG grey": (save(GREY, "JPEG", quality=95), GREY_RGB, LOSSY),
    "JPEG CMYK": (save(RGB.convert("CMYK"), "JPEG", quality=95), SCENE, LOSSY),
    "JPEG of two frames": (save(RGB, "MPO", quality=95, save_all=True, append_images=[OTHER.copy()]), SCENE, LOSSY),
    "PNG black and white": (save(RGB.convert("1"), "PNG"), np.asarray(RGB.convert("1").convert("RGB")), 0),
    "PNG grey": (save(GREY, "PNG"), GREY_RGB, 0),
    "PNG grey 16 bit": (png16(GREY, 0), GREY_RGB, 0),
    "PNG grey 16 bit and alpha": (png16(RGBA.convert("LA"), 4), 255 + (GREY_RGB - 255.0) * ALPHA[..., None] / 255, 0.5),
    "PNG 16 bit": (png16(RGB, 2), SCENE, 0),
    "PNG 16 bit and alpha": (png16(RGBA, 6), OVER_WHITE, 0.5),
    "PNG palette": (save(FLAT, "PNG"), FLAT_RGB, 0),
    "PNG palette with a transparent colour": (save(FLAT, "PNG", transparency=FLAT.getpixel((0, 0))), KEYED, 0),
    "PNG with a transparent colour": (save(FLAT.convert("RGB"), "PNG", transparency=tuple(map(int, KEY))), KEYED, 0),
    "PNG alpha": (save(RGBA, "PNG"), OVER_WHITE, 0.5),
    "PNG grey and alpha": (save(RGBA.convert("LA"), "PNG"), 255 + (GREY_RGB - 255.0) * ALPHA[..., None] / 255, 0.5),
    "PNG animated": (save(RGB, "PNG", save_all=True, append_images=[OTHER]), SCENE, 0),
    "JPEG with a profile": (save(RGB, "JPEG", quality=95, icc_profile=SWAPPED_PROFILE), SWAPPED, LOSSY),
    "PNG with a profile": (save(RGB, "PNG", icc_profile=SWAPPED_PROFILE), SWAPPED, 1),
    "PNG alpha with a profile": (save(RGBA, "PNG", icc_profile=SWAPPED_PROFILE), OVER_WHITE[..., [1, 0, 2]], 1),
    "PNG grey with a profile of colours": (save(GREY, "PNG", icc_profile=SWAPPED_PROFILE), GREY_RGB, 0),
    "PNG palette with a profile": (save(FLAT, "PNG", icc_profile=SWAPPED_PROFILE), FLAT_RGB[..., [1, 0, 2]], 1),
    "WebP with a profile": (save(RGB, "WEBP", lossless=True, icc_profile=SWAPPED_PROFILE), SWAPPED, 1),
    "TIFF with a profile": (save(RGB, "TIFF", icc_profile=SWAPPED_PROFILE), SWAPPED, 1),
    "TIFF LAB": (save(LAB, "TIFF"), SCENE, LOSSY),
    "BMP": (save(RGB, "BMP"), SCENE, 0),
    "BMP palette": (save(FLAT, "BMP"), FLAT_RGB, 0),
    "GIF": (save(FLAT, "GIF"), FLAT_RGB, 0),
    "GIF animated": (save(FLAT, "GIF", save_all=True, append_images=[OTHER.quantize(16)]), FLAT_RGB, 0),
    "WebP": (save(RGB, "WEBP", quality=95), SCENE, LOSSY),
    "WebP alpha": (save(RGBA, "WEBP", lossless=True, exact=True), OVER_WHITE, 0.5),
    "WebP animated": (save(RGB, "WEBP", lossless=True, save_all=True, append_images=[OTHER]), SCENE, 0),
    "TIFF": (save(RGB, "TIFF"), SCENE, 0),
    "TIFF compressed": (save(RGB, "TIFF", compression="tiff_lzw"), SCENE, 0),
    "TIFF CMYK": (save(RGB.convert("CMYK"), "TIFF"), SCENE, 0),
    "TIFF alpha": (save(RGBA, "TIFF"), OVER_WHITE, 0.5),
    "TIFF of two pages": (save(RGB, "TIFF", save_all=True, append_images=[OTHER]), SCENE, 0),
    "TIFF grey 16 bit": (save(Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257), "TIFF"), GREY_RGB, 0),
    "TIFF grey 32 bit": (save(Image.fromarray(np.asarray(GREY).astype(np.int32) * (257 * 32768)), "TIFF"), GREY_RGB, 0.5),
    "TIFF float": (save(Image.fromarray(np.float32(np.asarray(GREY) / 255)), "TIFF"), GREY_RGB, 0),
    "TIFF float 0 … 255": (save(Image.fromarray(np.float32(GREY)), "TIFF"), GREY_RGB, 0),
}
GOOD = ("JPEG grey", "JPEG of two frames", "PNG grey")  # of these, what TensorFlow decodes as it is
NOISE = save(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)), "PNG")
DAMAGED = {
    "text": b"I am a picture.",
    "nothing": b"",
    "cut JPEG": PLAIN["JPEG"][: len(PLAIN["JPEG"]) // 2],
    "JPEG cut in its header": PLAIN["JPEG"][:30],
    "cut PNG": NOISE[: len(NOISE) // 2],
    "PNG with a wrong checksum": NOISE[:200] + bytes([NOISE[200] ^ 1]) + NOISE[201:],
    "PNG of broken chunks": NOISE[:33] + png_chunk(b"IDAT", NOISE[41:1000]) + png_chunk(b"\0\0\0\0", b""),
    "cut WebP": ODD["WebP"][0][:200],
    "cut GIF": ODD["GIF"][0][:100],
    "bomb": png((20_000, 20_000, 8, 2, 0, 0, 0), np.zeros((1, 3), np.uint8)),
    "picture without pixels": png((0, 40, 8, 2, 0, 0, 0), np.zeros((40, 0), np.uint8)),
}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return np.abs(a - b.astype(float)).mean()
