"""What a picture file says beside its pixels: which way up it is, and what of the rest its translation can keep."""

import contextlib
import re
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Image, PngImagePlugin
from PIL.ExifTags import IFD, Base
from PIL.Image import Transpose

from system.storage import AnyPath

_UPRIGHT = {3: Transpose.ROTATE_180, 6: Transpose.ROTATE_270, 8: Transpose.ROTATE_90}  # what orientations ask for
_UPRIGHT |= {2: Transpose.FLIP_LEFT_RIGHT, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE, 7: Transpose.TRANSVERSE}
# Tags that say how a file's own pixels are stored, or hold what is kept by itself (XMP), or not at all (profiles, thumbnails, IPTC).
_OF_THE_FILE = {*range(0x00FE, 0x0108), 0x010A, 0x0111, *range(0x0115, 0x011A), 0x011C, 0x011D, *range(0x0120, 0x0126), 0x012D, 0x013D}
_OF_THE_FILE |= {0x013E, 0x013F, *range(0x0140, 0x015D), *range(0x0200, 0x0215), 0x02BC, 0x83BB, 0x8649, 0x8773, 0xC4A5}
_OF_THE_FILE |= {*range(0x5012, 0x5042), 0x5090, 0x5091, IFD.Exif, IFD.GPSInfo}
_OF_A_PNG = "Software"  # what it calls a note; JPEG has it as its comment, and WebP and TIFF as a tag
_RESOLUTION = (Base.XResolution, Base.YResolution, Base.ResolutionUnit)


def turn(picture: Image.Image) -> Transpose | None:
    """What makes a picture upright, if it has to be turned and its EXIF or XMP can be read."""
    if picture.format == "PNG" and not any(word in key for key in picture.info for word in ("exif", "xmp")):
        return None  # Pillow would decode all of it to look for EXIF behind the pixels, where `opening` leaves none
    try:
        return _UPRIGHT.get(picture.getexif().get(Base.Orientation))
    except Exception:  # damaged EXIF can raise nearly anything; damaged pixels are found by decoding
        return None


@dataclass(frozen=True)
class Metadata:
    """What is kept of a file: its EXIF without thumbnail, as nested tags, its XMP without thumbnail, and its dots per inch."""

    exif: dict[int, Any]
    xmp: bytes
    dpi: tuple[float, float] | None

    def options(self, format: str, width: int, height: int, note: str = "") -> dict[str, Any]:
        """With which Pillow writes them into an upright picture of this size in sRGB. JPEG has room for 64 KB of each, or leaves it out.

        `note`, in ASCII, is what `note_of` finds.
        """
        options: dict[str, Any] = {"dpi": self.dpi} if self.dpi else {}
        exif = self._exif(width, height, note if format in ("WEBP", "TIFF") else "", with_resolution=format == "WEBP")
        if format == "JPEG" and len(exif) > 65_533:
            exif = self._exif(width, height, without=(Base.MakerNote,))
        if exif and (format != "JPEG" or len(exif) <= 65_533):
            options["exif"] = exif
        if format == "JPEG" and note:
            options["comment"] = note
        if format == "PNG" and (note or self.xmp):
            options["pnginfo"] = texts = PngImagePlugin.PngInfo()
            if note:
                texts.add_text(_OF_A_PNG, note)
            if self.xmp:
                texts.add_itxt("XML:com.adobe.xmp", self.xmp.decode(errors="replace"))
        elif format == "TIFF" and (exif or self.xmp):
            options["exif"] = tags = Image.Exif()
            tags.load(exif)
            tags.update({tag: _as_stored(value) for tag, value in tags.items()} | ({0x02BC: self.xmp} if self.xmp else {}))
            options |= {"compression": "raw"} if self.exif else {}  # what compresses them cannot write nested tags
        elif self.xmp and (format != "JPEG" or len(self.xmp) <= 65_504):
            options["xmp"] = self.xmp
        return options

    def _exif(self, width: int, height: int, note: str = "", with_resolution: bool = False, without: tuple[int, ...] = ()) -> bytes:
        tags = dict(self.exif)
        if with_resolution and self.dpi and Base.XResolution not in tags:  # the format has no other place for it
            tags |= dict(zip(_RESOLUTION, (*self.dpi, 2), strict=True))
        if not tags and not note:
            return b""
        tags |= ({Base.Orientation: 1} if tags else {}) | ({Base.ProcessingSoftware: note} if note else {})
        if IFD.Exif in tags:
            sizes = {Base.ExifImageWidth: width, Base.ExifImageHeight: height, Base.ColorSpace: 1}  # 1: sRGB
            known = tags[IFD.Exif]
            tags[IFD.Exif] = {tag: sizes.get(tag, value) for tag, value in known.items() if tag not in without}
        exif = Image.Exif()
        exif.update(tags)
        return exif.tobytes()


NOTHING = Metadata({}, b"", None)


def note_of(file: AnyPath) -> str:
    """The note that a picture was written with, from its header; "" if it has none, or cannot be read."""
    with contextlib.suppress(Exception), file.open("rb") as stream:  # see `turn`
        if stream.read(4) == b"RIFF":
            tags = _exif_of_webp(stream)
        else:
            picture = Image.open(stream, formats=("PNG", "JPEG", "TIFF"))
            if picture.format != "TIFF":
                found = picture.info.get(_OF_A_PNG if picture.format == "PNG" else "comment", "")
                return found.decode("latin-1") if isinstance(found, bytes) else found
            tags = picture.getexif()
        return str(tags.get(Base.ProcessingSoftware, ""))
    return ""


def _exif_of_webp(stream: BinaryIO) -> Image.Exif:
    """The EXIF of a WebP that was read up to its fourth byte. Pillow would make room for all of its pixels first."""
    tags = Image.Exif()
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        length = int.from_bytes(head[4:], "little")
        if head.startswith(b"EXIF"):
            tags.load(stream.read(length))
            break
        stream.seek(stream.tell() + length + length % 2)
    return tags


def of(picture: Image.Image) -> Metadata:
    """The metadata of an opened picture. What is damaged counts as missing."""
    tags: dict[int, Any] = {}
    with contextlib.suppress(Exception):  # see `turn`
        if picture.format != "PNG" or turn(picture) or any("exif" in key for key in picture.info):
            found = picture.getexif()
            tags = {tag: _as_stored(value) for tag, value in found.items() if tag not in _OF_THE_FILE}
            for ifd in (IFD.Exif, IFD.GPSInfo):
                if inner := {tag: _as_stored(value) for tag, value in found.get_ifd(ifd).items() if tag != IFD.Interop}:
                    tags[ifd] = inner
    if set(tags) <= {Base.Orientation, *_RESOLUTION}:  # of XMP or of the file, and written as such
        tags = {}
    return Metadata(tags, _upright_xmp(picture.info.get("xmp")), _dpi(picture.info.get("dpi")))


def _as_stored(value: Any) -> Any:
    """The value of a tag as Pillow writes it unchanged: of text that is not ASCII it would write question marks."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value


def _upright_xmp(xmp: bytes | str | None) -> bytes:
    if not xmp:
        return b""
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    xmp = re.sub(rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)[2-8]""", rb"\g<1>1", xmp)
    return re.sub(rb"<((?:xmp|xap):Thumbnails)\b.*?</\1>", b"", xmp, flags=re.DOTALL)


def _dpi(dpi: Any) -> tuple[float, float] | None:
    try:
        x, y = map(float, dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 65_536 and 0 < y < 65_536 else None
