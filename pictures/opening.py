"""Picture files as Pillow is given them: of the formats that are promised only, and without metadata that would keep it from the pixels."""

import contextlib
import io
import logging
import re
import struct
import sys
import warnings
from collections.abc import Iterator

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from pictures import chunks, listening, tiff
from system.cli import InputError

READ = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "JPEG2000", "PPM", "TGA", "QOI")  # no other of Pillow's readers is asked
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # of a file's first box; the last two can be AVIF
HEIF_REMEDY = "bash scripts/setup.sh heif installs what reads HEIC"
MAX_PIXELS = 100_000_000  # a larger picture is taken for a decompression bomb
Image.MAX_IMAGE_PIXELS = None  # ours is the limit: Pillow's only warns up to twice its own
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 1 << 26  # bytes of a profile, or XMP: Pillow refuses pictures with 1 MB
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # about damaged metadata, which does not matter here
logging.getLogger("PIL").addHandler(logging.NullHandler())  # and what it says of that to nobody in particular

PNG, JPEG, WEBP = chunks.PNG, b"\xff\xd8", b"RIFF"
_COLOURS = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf", b"pHYs")  # of its metadata, what is looked at
_LIBTIFF = re.compile(rb"(?:tempfile\.tif|_?[A-Z]\w*[a-z]\w*): (.*)")  # how its lines begin
_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type ")  # and of its texts, which can say how it is turned


class PictureError(InputError):
    """A file that is no readable picture."""


def header(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens a picture: what its header says is known, its pixels are not yet decoded. Raises `PictureError`."""
    formats = (*READ, "HEIF") if _is_heif(data) and _register_heif() else READ
    try:
        picture = _open(data, formats)
    except UnidentifiedImageError:
        raise PictureError(_unread(data)) from None
    except Exception as e:  # a damaged header can raise nearly anything
        raise damaged(e) from None
    if picture.format == "TIFF":
        tiff.skip_thumbnails(picture)
    if picture.width * picture.height > max_pixels:
        raise PictureError(f"{picture.width}×{picture.height} is more than {max_pixels // 10**6} megapixels")
    if codes := _codes(data, picture):
        picture.info["codes"] = codes
    return picture


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS


def _unread(data: bytes) -> str:
    if _is_heif(data) and not _register_heif():
        return f"a picture in HEIC: {HEIF_REMEDY}, or convert it to .jpg or .png"
    if data.startswith(tiff.PREFIXES):
        return tiff.unread(data)
    if data.startswith(JPEG):
        return "a JPEG that is damaged, or of a kind that is not read, of 12 bit say; save it anew in 8 bit"
    if data.startswith((PNG, b"GIF8")) or data[4:12] == b"ftypavif" or _is_heif(data):
        return "damaged picture (what stands before its pixels)"
    return "not a picture of a format that is read" if data else "an empty file"


def damaged(e: Exception) -> PictureError:
    """What is raised instead of an error of Pillow's."""
    words = str(e) or type(e).__name__
    if words.startswith("Unsupported"):
        return PictureError(f"a picture of a kind that is not read ({words}); save it as a PNG")
    return e if isinstance(e, PictureError) else PictureError(f"damaged picture ({words})")


def _codes(data: bytes, picture: Image.Image) -> tuple[int, int, bool] | None:
    """What Pillow passes over: the numbers of a picture's primaries and of its curve (ITU-T H.273), and whether black is 0; None if unsaid.

    In a PNG they count before its profile, in AVIF and HEIC where there is none.
    """
    if picture.format == "PNG" and b"cICP" in data[: data.find(b"IDAT")]:
        said = (content for kind, content, holds in chunks.of(data) if kind == b"cICP" and holds and len(content) == 4)
        return next(((primaries, curve, full != 0) for primaries, curve, _, full in said), None)
    at = data.find(b"colrnclx", 0, 1 << 16) + 8  # the first is the picture's own
    if picture.format in ("AVIF", "HEIF") and at >= 8 and len(data) >= at + 4 and not picture.info.get("icc_profile"):
        primaries, curve = struct.unpack_from(">HH", data, at)
        # Encoders on phones say what their video has, though they are given sRGB; all of it is decoded to the full range.
        return 1 if primaries in (5, 6, 7) else primaries, 13 if curve in (1, 6, 14, 15) else curve, True
    return None


def _open(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Opens a picture as it is or, where that fails, without its metadata. Raises what the first attempt did."""
    attempts, error = _attempts(data), None
    for attempt in attempts:
        try:
            return Image.open(io.BytesIO(attempt), formats=formats)
        except Exception as e:
            error = error or e
    raise error


def _attempts(data: bytes) -> Iterator[bytes]:
    if data.startswith(PNG):
        for kinds, texts in ((_COLOURS, _TEXTS), (_COLOURS, ()), ((), ())):
            yield _png(data, kinds, texts)
        return
    yield data
    for start, stripped in ((JPEG, _jpeg), (WEBP, _webp), (tiff.PREFIXES, tiff.without_metadata)):
        if data.startswith(start):
            yield stripped(data)


def _register_heif() -> bool:
    """Teaches Pillow to read HEIF, as phones write it, when the first such picture comes; tells whether it now can."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def is_lossy(data: bytes) -> bool:
    """Tells whether a picture is of a format that keeps it nearly as it was. Raises `PictureError`."""
    format = header(data).format
    return format in ("JPEG", "MPO", "HEIF", "AVIF") or format == "WEBP" and b"VP8 " in data[12:].partition(b"VP8L")[0]


def load(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens a picture and decodes its pixels. Raises `PictureError` unless all of them are there."""
    picture = header(data, max_pixels)
    if picture.format == "JPEG2000" and len(picture.getbands()) > 1 and _has_deep_colours(data):  # white would become black
        raise PictureError("a JPEG 2000 of colours of more than 8 bit, which is not read; save it in 8 bit, or as a PNG")
    try:
        _decode(picture)
        if picture.format == "PNG" and _may_lack_rows(picture) and chunks.lacks_pixels(data):
            raise PictureError("damaged picture (rows are missing at its end)")
    except Exception as e:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, …
        if picture.format == "TIFF" and ("raw mode" in str(e) or tiff.is_rare(picture)):  # which Pillow finds out no sooner
            raise PictureError(tiff.unread(data)) from None
        mended = _mended(picture.format, data)
        if not mended or mended.size != picture.size:
            raise damaged(e) from None
        picture = mended
    return picture


def _may_lack_rows(picture: Image.Image) -> bool:
    """Tells whether a decoded PNG is such that its last rows can be missing: Pillow leaves them black, and says nothing."""
    last = (0, picture.height - 1, picture.width, picture.height)
    return bool(picture.info.get("interlace")) or not any(picture.crop(last).tobytes())


def _decode(picture: Image.Image) -> None:
    """Decodes the pixels. Raises nearly anything, as Pillow does, and `ValueError` for damage in a TIFF, which libtiff only prints."""
    if picture.format != "TIFF":
        picture.load()
        return
    with listening.to(_LIBTIFF) as heard:
        picture.load()
    if heard:
        raise ValueError(heard[0])


def _mended(format: str | None, data: bytes) -> Image.Image | None:
    """The decoded picture of a file that cannot be decoded as it is, if all of its pixels are there."""
    if format == "JPEG2000":
        data = data.removesuffix(b"\xff") + b"\xff\xd9"  # its end; more than that its decoder would miss
    elif format == "TIFF":
        data = tiff.without_metadata(data)
    elif not (data := with_end(data) if data.startswith(JPEG) else None):
        return None
    with contextlib.suppress(Exception):  # nearly anything, as above
        picture = header(data, sys.maxsize)
        _decode(picture)
        return picture
    return None


# --- JPEG


def with_end(data: bytes) -> bytes | None:
    """A JPEG that lacks its end marker, with one, and without the zeros there instead; None if it lacks pixels as well.

    What a decoder finds after the last pixel does not change them: it shows by two ends that differ.
    """
    ends = (b"\xff\xd9", bytes(range(1, 250)) * 4 + b"\xff\xd9", bytes(range(249, 0, -1)) * 4 + b"\xff\xd9")
    for rest in dict.fromkeys((data.rstrip(b"\0"), data)):  # its last bytes can be zeros, too
        rest = rest.removesuffix(b"\xff")
        with contextlib.suppress(Exception):  # nearly anything, as above
            if len({header(rest + end).convert("RGB").tobytes() for end in ends}) == 1:
                return rest + ends[0]
    return None


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The segments before the pixels of a JPEG: their markers' second bytes, and all of their bytes."""
    at = 1
    while (at := data.find(b"\xff", at + 1)) >= 0 and len(data) >= at + 4:
        kind = data[at + 1]
        if kind in (0x00, 0x01, 0xFF):  # no segment, or a filling byte
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xDA:  # the scan, up to the file's end
            end = len(data)
        yield kind, data[at:end]
        at = end - 1


def _jpeg(data: bytes) -> bytes:
    """A JPEG without what cameras and programs add, but its colour profile and Adobe's segment, which says how colours are stored."""

    def is_kept(kind: int, part: bytes) -> bool:
        return kind == 0xEE and len(part) >= 16 or part[4:].startswith(b"ICC_PROFILE\0") or not (0xE0 <= kind <= 0xEF or kind == 0xFE)

    return JPEG + b"".join(part for kind, part in segments(data) if is_kept(kind, part))


# --- PNG


def _png(data: bytes, kinds: tuple[bytes, ...], texts: tuple[bytes, ...]) -> bytes:
    """A PNG of its pixels and these kinds of chunks and texts only, which come before the pixels. Raises `PictureError` if it is damaged.

    Of an animation this is the first frame, or what is there for those who cannot show it.
    """
    before, pixels, broken = [], [], False
    for kind, content, holds in chunks.of(data):
        if kind == b"IDAT":
            pixels.append(content)
            broken |= not holds
        elif kind in chunks.PIXELS:
            if not holds:
                raise PictureError(f"damaged picture (the checksum of its {kind.decode()} is wrong)")
            before.append((kind, _transparent(content, *data[24:26]) if kind == b"tRNS" else content))
        elif holds and (
            kind in kinds and (not pixels or kind == b"eXIf") or kind in (b"tEXt", b"zTXt", b"iTXt") and content.startswith(texts)
        ):
            before.append((kind, content))
    if broken and chunks.inflated(pixels) is None:  # pixels have a checksum of their own
        raise PictureError("damaged picture (the checksum of its pixels is wrong)")
    return PNG + b"".join(chunks.written(*chunk) for chunk in (*before, *((b"IDAT", part) for part in pixels), (b"IEND", b"")))


def _transparent(content: bytes, bits: int, colours: int) -> bytes:
    """A PNG's tRNS as Pillow has to be given it. Raises `PictureError` for a kind of it that Pillow gets wrong."""
    if colours == 0 and bits < 8:  # grey is compared once it is of 8 bit
        return struct.pack(">H", int.from_bytes(content[:2], "big") % 256 * 255 // (2**bits - 1))
    if colours == 2 and bits == 16:  # and so are colours, of which more than one can be equal then
        raise PictureError("a PNG of 16 bit in which one colour is transparent, which is not read; save it with an alpha channel")
    return content


# --- JPEG 2000 and WebP


def _has_deep_colours(data: bytes) -> bool:
    """Tells whether a channel of a JPEG 2000 has more than 8 bits, from its SIZ segment."""
    at = data.find(b"\xff\x4f\xff\x51") + 40
    count = int.from_bytes(data[at : at + 2], "big")
    return any(bits & 0x7F > 7 for bits in data[at + 2 : at + 2 + 3 * count : 3])


def _webp(data: bytes) -> bytes:
    """A WebP without EXIF and XMP."""
    kept, at = [], 12
    while len(data) >= at + 8:
        kind, size = struct.unpack_from("<4sI", data, at)
        part = data[at : at + 8 + size + size % 2]
        if kind == b"VP8X":  # says what there is
            part = part[:8] + bytes([part[8] & ~0x0C]) + part[9:]
        if kind not in (b"EXIF", b"XMP "):
            kept.append(part)
        at += len(part)
    body = b"WEBP" + b"".join(kept)
    return WEBP + struct.pack("<I", len(body)) + body
