"""Picture files in and out: every format, orientation and colour mode; beside it are the modules that know one part of that each."""

import importlib.util
import io
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from pictures import chunks, colours, metadata, opening
from pictures.metadata import Metadata
from pictures.opening import HEIF_REMEDY, MAX_PIXELS, PictureError
from system import finding, storage
from system.cli import InputError, on_one_line
from system.storage import AnyPath

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")  # of pictures in folders
SUFFIXES += (".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pnm", ".tga", ".qoi")
HEIF = (".heic", ".heif", ".hif")  # as well, where pillow-heif is installed
OTHERS = (".jxl", ".jxr", ".svg", ".svgz", ".psd", ".xcf", ".exr", ".hdr", ".ico", ".eps", ".ai")  # are pictures, too, but not read
OTHERS += (".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr", ".raw")
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}  # that can be written
MOST = {"JPEG": 65_500, "WEBP": 16_383}  # pixels of a side
Alpha = np.ndarray | None  # uint8 (H, W)


def find(folder: str | AnyPath, without: AnyPath | None = None, unreadable: list[str] | None = None) -> list[AnyPath]:
    """Returns the pictures in `folder` and below, by suffix, hidden ones left out, sorted by path. Raises `InputError` if there is none.

    What is in the folder `without` is left out. Pictures of other formats are too, and those in folders that are not people's, and a line
    on stderr says so. Folders that cannot be read are added to `unreadable`, with the reason, or named on stderr if that is None.
    """
    folder = storage.path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: " + ("is no folder; name one" if folder.exists() else "no such folder"))
    taken, out = (*SUFFIXES, *(HEIF if _heif_is_installed() else ())), without and storage.resolve(without)
    files, others, kept, errors = [], [], [], []
    for root, folders, names in finding.walk(folder, errors.append, kept.append):
        folders[:] = [name for name in folders if out is None or storage.resolve(root / name) != out]
        for file in (root / name for name in names if not name.startswith(".")):
            if (suffix := file.suffix.lower()) in taken:
                files.append(file)
            elif suffix in (*HEIF, *OTHERS):
                others.append(file)
    problems = [finding.told_unreadable(e) for e in errors]
    if not files:
        told = f"; there is {_told(others)}" if others else "".join(f"; {problem}" for problem in problems[:1])
        raise InputError(f"{folder}: no picture in this folder (looked for {' '.join(taken)}){told}")
    if unreadable is not None:
        unreadable += problems
    lines = ([_told(others)] if others else []) + ([told_machines(kept)] if kept else [])
    for line in lines + problems * (unreadable is None):
        print(f"left out: {on_one_line(line)}", file=sys.stderr)
    return sorted(files, key=lambda f: f.relative_to(folder).as_posix())


def _told(others: list[AnyPath]) -> str:
    """Says which files are of formats that are not read, and what can be done."""
    counts = Counter(file.suffix.lower() for file in others)
    kinds = ", ".join(f"{n} {suffix}" for suffix, n in sorted(counts.items()))
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    remedy = f"; {HEIF_REMEDY}" if any(suffix in counts for suffix in HEIF) else ""
    return f"{min(others)}{more}, of formats that are not read ({kinds}): convert to .jpg or .png{remedy}"


def told_machines(folders: list[AnyPath]) -> str:
    """Says which folders are not people's, and how many pictures are in them."""
    walks = (finding.walk(folder) for folder in folders)
    count = sum(name.lower().endswith((*SUFFIXES, *HEIF)) for walk in walks for _, _, names in walk for name in names)
    more = f" and {len(folders) - 1} more folders" if len(folders) > 1 else ", a folder"
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    return f"{min(folders)}{more} of thumbnails, deleted files and the like, with {pictures}: rename what you want to have taken"


def _heif_is_installed() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None


def content(file: AnyPath, max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of a picture file. Raises `OSError`, and `PictureError` if there are more than any picture has that is read."""
    if (size := storage.size(file)) > 16 * max_pixels + (1 << 26):  # four channels of 32 bit, and room for metadata
        raise PictureError(f"{size / 1e9:.1f} GB, more than a picture of {max_pixels // 10**6} megapixels needs; take it out")
    return storage.read(file)


def size(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Returns width and height in pixels as they are stored, from the header. Raises `PictureError`."""
    return opening.header(data, max_pixels).size


def is_plain(data: bytes) -> bool:
    """Tells whether `data` is an upright 8-bit JPEG or PNG in sRGB or grey, good as it is if it is whole. Raises `PictureError`."""
    picture = opening.header(data)
    plain = picture.format in ("JPEG", "MPO", "PNG") and picture.mode in ("L", "RGB") and "transparency" not in picture.info
    if not plain or picture.format == "PNG" and chunks.is_deep_or_animated(data):
        return False
    return metadata.turn(picture) is None and colours.profile_of(picture) is None


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns any picture as upright sRGB, uint8 (H, W, 3): alpha over white, 16 bit scaled, the first frame. Raises `PictureError`."""
    picture = _load(data, max_pixels)
    return np.asarray(_over_white(picture) if picture.mode == "RGBA" else picture)


def decode_with_alpha(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, Alpha]:
    """As `decode`, though colours are not mixed with white; and alpha, uint8 (H, W), if there is one. Where it is 0 they mean nothing."""
    picture = _load(data, max_pixels)
    alpha = np.asarray(picture.getchannel("A")) if picture.mode == "RGBA" else None
    return np.asarray(picture.convert("RGB")), alpha


def metadata_of(data: bytes, max_pixels: int = MAX_PIXELS) -> Metadata:
    """What `write` can carry over into another picture. Raises `PictureError`."""
    return metadata.of(opening.header(data, max_pixels))


def _load(data: bytes, max_pixels: int) -> Image.Image:
    """Decodes any picture to upright sRGB of mode RGB or RGBA."""
    picture = opening.load(data, max_pixels)
    try:
        turn = metadata.turn(picture)
        picture = colours.in_srgb(picture)
        return picture if turn is None else picture.transpose(turn)
    except Exception as e:
        raise opening.damaged(e) from None


def _over_white(picture: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def read(file: str | AnyPath, decode: Callable[[bytes], Any] = decode) -> Any:
    """What `decode` makes of a file. Raises `PictureError` that names it, also if it cannot be opened."""
    try:
        return decode(content(storage.path(file)))
    except (PictureError, OSError) as e:
        raise PictureError(f"{file}: {getattr(e, 'strerror', e)}") from None


def check_fits(suffix: str, height: int, width: int) -> None:
    """Raises `PictureError` for a picture that is too large for its format."""
    format = FORMATS[suffix.lower()]
    if max(height, width) > (most := MOST.get(format, max(height, width))):
        raise PictureError(f"{width}×{height} cannot be written as {format}, which has {most} pixels a side at most; use png")


def encode(
    picture: np.ndarray, suffix: str = ".png", alpha: Alpha = None, quality: int | None = None, kept: Metadata | None = None, note: str = ""
) -> bytes:
    """Returns the file, one of `FORMATS`, of uint8 (H, W, 3) in sRGB, and of alpha, (H, W), which JPEG does not have: it is put on white.

    JPEG and WebP lose a little with `quality`, 1 to 100: JPEG has 95 and all of its colours (4:4:4), WebP, which halves them, else loses
    nothing. `kept` and `note` are for beside the pixels, see `metadata`. Raises `PictureError` if a picture is too large for the format.
    """
    check_fits(suffix, *picture.shape[:2])
    image, format, out = Image.fromarray(picture), FORMATS[suffix.lower()], io.BytesIO()
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
        image = _over_white(image) if format == "JPEG" else image
    options = {
        "JPEG": {"quality": quality or 95, "subsampling": 0},
        "WEBP": {"quality": quality} if quality else {"lossless": True},
        "TIFF": {"compression": "tiff_deflate"},
        "PNG": {"compress_level": 3},  # photos become as small as with the usual 6, in a third of the time
    }[format]
    try:
        image.save(out, format, **(options | (kept or metadata.NOTHING).options(format, *image.size, note)))
    except Exception as e:
        if kept:  # it may be of a kind that Pillow cannot write: that does not cost the picture
            return encode(picture, suffix, alpha, quality, note=note)
        if not isinstance(e, OSError | ValueError):
            raise
        raise PictureError(f"{picture.shape[1]}×{picture.shape[0]} cannot be written as {format} ({e}); use png") from None
    return out.getvalue()


def write(
    file: str | AnyPath, picture: np.ndarray, alpha: Alpha = None, quality: int | None = None, kept: Metadata | None = None, note: str = ""
) -> None:
    """Writes uint8 (H, W, 3), and what `encode` takes, as the suffix of `file` says; a temporary name is renamed, folders are created."""
    file = storage.path(file)
    data = encode(picture, file.suffix, alpha, quality, kept, note)
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
    """Resizes uint8 (H, W, 3) so that its shorter side is `size` pixels, aspect kept. Raises `PictureError` if it would become huge."""
    height, width = with_short_side(*picture.shape[:2], size)
    if height * width > MAX_PIXELS:
        raise PictureError(f"{picture.shape[1]}×{picture.shape[0]} would become {width}×{height}; take it out")
    return resize(picture, height, width)


def centre_square(picture: np.ndarray, size: int) -> np.ndarray:
    """Resizes uint8 (H, W, 3) so that its shorter side is `size` pixels, and cuts the square from its middle."""
    height, width = with_short_side(*picture.shape[:2], size)
    top, left = (height - size) // 2, (width - size) // 2
    if height * width > MAX_PIXELS:  # of 6000×1, say: only the square is computed
        y, x = picture.shape[0] / height, picture.shape[1] / width
        box = (left * x, top * y, (left + size) * x, (top + size) * y)
        return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC, box))
    picture = resize(picture, height, width)
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
