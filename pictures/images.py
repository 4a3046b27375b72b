"""Picture files in and out: every format, orientation and colour mode; the one place that knows Pillow."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.Image import Transpose

from system import storage
from system.cli import InputError
from system.storage import AnyPath

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}  # that can be written
MAX_PIXELS = 100_000_000  # a larger picture is taken for a decompression bomb
Image.MAX_IMAGE_PIXELS = None  # ours is the limit: Pillow's only warns up to twice its own
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # about damaged metadata, which does not matter here

_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {3: Transpose.ROTATE_180, 6: Transpose.ROTATE_270, 8: Transpose.ROTATE_90}  # what its values ask for
_UPRIGHT |= {2: Transpose.FLIP_LEFT_RIGHT, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE, 7: Transpose.TRANSVERSE}


class PictureError(InputError):
    """A file that is no readable picture."""


def find(folder: str | AnyPath) -> list[AnyPath]:
    """Returns the pictures in `folder` and below, by suffix, hidden ones left out, sorted by path. Raises `InputError` if there is none."""
    folder = storage.path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files = []
    for root, folders, names in storage.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [root / name for name in names if not name.startswith(".") and PurePath(name).suffix.lower() in SUFFIXES]
    if not files:
        raise InputError(f"{folder}: no picture in this folder (looked for {' '.join(SUFFIXES)})")
    return sorted(files, key=lambda f: f.relative_to(folder).as_posix())


def _open(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Reads a picture's header. Raises `PictureError`."""
    try:
        picture = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise PictureError("not a picture") from None
    except Exception as e:  # a damaged header can raise nearly anything
        raise PictureError(f"damaged picture ({e})") from None
    if picture.width * picture.height > max_pixels:
        raise PictureError(f"{picture.width}×{picture.height} is more than {max_pixels // 10**6} megapixels")
    return picture


def size(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Returns width and height in pixels as they are stored, from the header. Raises `PictureError`."""
    return _open(data, max_pixels).size


def is_plain(data: bytes) -> bool:
    """Tells whether `data` is an upright 8-bit sRGB JPEG or PNG, which needs no conversion, if it is whole. Raises `PictureError`."""
    picture = _open(data)
    plain = picture.format in ("JPEG", "PNG") and picture.mode == "RGB" and "transparency" not in picture.info
    deep = picture.format == "PNG" and data[24] != 8  # IHDR's bit depth: Pillow calls 16-bit RGB "RGB" too
    if not plain or deep or getattr(picture, "n_frames", 1) > 1:
        return False
    return _orientation(picture, data) not in _UPRIGHT and _profile(picture) is None


def _orientation(picture: Image.Image, data: bytes) -> int | None:
    """The EXIF orientation, if it can be read."""
    if picture.format == "PNG" and not any(word in data for word in (b"eXIf", b"exif", b"xmp")):
        return None  # EXIF may follow the pixels in a PNG: Pillow would decode all of it to find none
    try:
        return picture.getexif().get(_ORIENTATION)
    except Exception:  # damaged EXIF can raise nearly anything; damaged pixels are found by decoding
        return None


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns any picture as upright sRGB, uint8 (H, W, 3): alpha over white, 16 bit scaled, the first frame. Raises `PictureError`."""
    picture = _load(data, max_pixels)
    return np.asarray(_over_white(picture) if picture.mode == "RGBA" else picture)


def decode_with_alpha(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, np.ndarray | None]:
    """As `decode`, though colours are not mixed with white, but white where none is seen; and alpha, uint8 (H, W), if there is one."""
    picture = _load(data, max_pixels)
    if picture.mode == "RGB":
        return np.asarray(picture), None
    alpha = picture.getchannel("A")
    seen = alpha.point(lambda a: 255 if a else 0)
    return np.asarray(Image.composite(picture.convert("RGB"), Image.new("RGB", picture.size, "white"), seen)), np.asarray(alpha)


def _load(data: bytes, max_pixels: int) -> Image.Image:
    """Decodes any picture to upright sRGB of mode RGB or RGBA."""
    picture = _open(data, max_pixels)
    try:
        picture.load()
        orientation = _orientation(picture, data)
        picture = _in_srgb(picture)
        return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture
    except Exception as e:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise PictureError(f"damaged picture ({e})") from None


def _in_srgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":  # convert() would clip these
        return _scaled(picture).convert("RGB")
    profile = _profile(picture)
    alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    if picture.mode == "LAB":
        profile = ImageCms.createProfile("LAB")
    elif picture.mode not in ("L", "RGB", "CMYK"):
        picture = picture.convert("RGB" if picture.mode != "LA" else "L")
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError):  # one that is not for this kind of picture: it shows as without
            picture = ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    picture = picture.convert("RGB")
    if alpha:
        picture.putalpha(alpha)
    return picture


def _profile(picture: Image.Image):
    """The colour profile, if there is one that can be read, and not that of sRGB, which most are."""
    data = picture.info.get("icc_profile")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data)) if data else None
        return profile if profile and "sRGB" not in ImageCms.getProfileDescription(profile) else None
    except (OSError, ImageCms.PyCMSError):
        return None


def _over_white(picture: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _scaled(picture: Image.Image) -> Image.Image:
    """Scales grey of 16 or 32 bit, or floating point in [0, 1], to 8 bit."""
    grey = np.asarray(picture).astype(np.float64)
    if picture.mode == "F":
        grey = np.nan_to_num(grey) * (255 if np.nanmax(grey) <= 1 else 1)
    else:
        grey /= 257 if grey.max() <= 65535 else 257 * 65537  # 65535 / 257 = 255
    return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))


def read(file: str | AnyPath) -> np.ndarray:
    """`decode`s a file. Raises `PictureError` that names it, also if it cannot be opened."""
    try:
        return decode(storage.path(file).read_bytes())
    except (PictureError, OSError) as e:
        raise PictureError(f"{file}: {getattr(e, 'strerror', e)}") from None


def encode(picture: np.ndarray, suffix: str = ".png", alpha: np.ndarray | None = None) -> bytes:
    """Returns the file, one of `FORMATS`, of uint8 (H, W, 3) in sRGB, and of alpha, (H, W), which JPEG does not have: it is put on white.

    JPEG and WebP lose a little (quality 95). Raises `PictureError` if a picture is too large for the format.
    """
    image, format, out = Image.fromarray(picture), FORMATS[suffix.lower()], io.BytesIO()
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
        image = _over_white(image) if format == "JPEG" else image
    try:
        image.save(out, format, **({"compression": "tiff_deflate"} if format == "TIFF" else {"quality": 95}))
    except (OSError, ValueError) as e:
        raise PictureError(f"{picture.shape[1]}×{picture.shape[0]} cannot be written as {format} ({e}); use png") from None
    return out.getvalue()


def write(file: str | AnyPath, picture: np.ndarray, alpha: np.ndarray | None = None) -> None:
    """Writes uint8 (H, W, 3), and alpha, as the suffix of `file` says; a temporary name is renamed, folders are created."""
    file = storage.path(file)
    data = encode(picture, file.suffix, alpha)
    with storage.atomic_write(file) as temporary:
        temporary.write_bytes(data)


def resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes uint8 (H, W, 3) or (H, W) by bicubic interpolation, antialiased."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def with_short_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Scales height and width so that the shorter is `size` pixels, aspect kept."""
    scale = size / min(height, width)
    return round(height * scale), round(width * scale)


def resize_short_side(picture: np.ndarray, size: int) -> np.ndarray:
    """Resizes uint8 (H, W, 3) so that its shorter side is `size` pixels, aspect kept."""
    return resize(picture, *with_short_side(*picture.shape[:2], size))


def centre_square(picture: np.ndarray, size: int) -> np.ndarray:
    """Resizes uint8 (H, W, 3) so that its shorter side is `size` pixels, and cuts the square from its middle."""
    picture = resize_short_side(picture, size)
    top, left = ((side - size) // 2 for side in picture.shape[:2])
    return picture[top : top + size, left : left + size]


def contact_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], side: int = 160, gap: int = 4) -> np.ndarray:
    """Lays pictures, uint8 (H, W, 3), out in labelled rows of squares of `side` pixels; returns uint8 (H', W', 3)."""
    font = ImageFont.load_default(13)
    margin = 16 + max(round(font.getlength(label)) for label, _ in rows)
    columns = max(len(pictures) for _, pictures in rows)
    sheet = Image.new("RGB", (margin + columns * (side + gap), gap + len(rows) * (side + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (label, pictures) in enumerate(rows):
        top = gap + row * (side + gap)
        draw.text((8, top + side // 2), label, "black", font, anchor="lm")
        for column, picture in enumerate(pictures):
            square = ImageOps.pad(Image.fromarray(picture), (side, side), Image.Resampling.BICUBIC, "white")
            sheet.paste(square, (margin + column * (side + gap), top))
    return np.asarray(sheet)
