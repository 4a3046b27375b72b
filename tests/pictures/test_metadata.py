"""What a picture says of itself is carried over on demand, as it is true of the new picture; else none of it."""

import io

import numpy as np
import pytest
import tifffile
from photos import RGB, SCENE, png_chunk, save
from PIL import Image, PngImagePlugin

from pictures import images, metadata

XMP = b"""<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description tiff:Orientation="6" dc:title="an apple"><xmp:Thumbnails><rdf:Alt>small</rdf:Alt></xmp:Thumbnails></rdf:Description>
</rdf:RDF></x:xmpmeta>"""
SMALL = save(RGB.resize((16, 12)), "JPEG")  # a thumbnail
EXIF, GPS, INTEROP, MAKER = 0x8769, 0x8825, 0xA005, 0x927C


def exif(**more) -> bytes:
    """What a camera writes: of the picture, of how it was taken, and where."""
    tags = Image.Exif()
    tags.update({0x010F: "a camera", 0x0112: 6, 0x011A: 300.0, 0x011B: 300.0, 0x0128: 2, 0x013B: "Jürgen".encode()})
    taken = {
        0x829A: 0.008,
        0x9003: "2026:01:02 03:04:05",
        0xA001: 65535,
        0xA002: 56,
        0xA003: 40,
        MAKER: b"its maker's",
        INTEROP: {1: "R03"},
    }
    tags[EXIF], tags[GPS] = taken | more.get("taken", {}), {1: "N", 2: (47.0, 22.0, 1.5)}
    return tags.tobytes()


def with_thumbnail(data: bytes) -> bytes:
    """EXIF with a second directory, as cameras append it."""
    first = int.from_bytes(data[10:14], "little") + 6
    end = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    entries = [(0x0201, 4, 1, len(data) - 6 + 2 + 24 + 4), (0x0202, 4, 1, len(SMALL))]
    table = (2).to_bytes(2, "little") + b"".join(
        tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + count.to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, kind, count, value in entries
    )
    return data[:end] + (len(data) - 6).to_bytes(4, "little") + data[end + 4 :] + table + bytes(4) + SMALL


def camera(format: str) -> bytes:
    """A picture with all of that."""
    turned = Image.fromarray(np.rot90(SCENE))
    more = {"exif": with_thumbnail(exif()), "xmp": XMP, "dpi": (300, 300)}
    if format == "PNG":
        more["pnginfo"] = PngImagePlugin.PngInfo()
        more["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    if format == "TIFF":
        more["exif"] = tags = Image.Exif()
        tags.load(exif())
        tags[0x02BC] = XMP
    return save(turned, format, **more)


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_it_is_carried_over_as_it_is_true_of_the_new_picture(source, suffix):
    data = camera(source)
    written = images.encode(SCENE[:24, :33], suffix, kept=images.metadata_of(data))
    assert images.decode(written).shape == (24, 33, 3)  # not turned once more
    picture = Image.open(io.BytesIO(written))
    found = picture.getexif()
    taken = found.get_ifd(EXIF)
    assert (found[0x010F], found[0x0112], found[0x011A]) == ("a camera", 1, pytest.approx(300, abs=0.01))
    assert (taken[0x829A], taken[0x9003], taken[0xA001], taken[0xA002], taken[0xA003]) == (0.008, "2026:01:02 03:04:05", 1, 33, 24)
    assert "Jürgen".encode() in written or source in ("TIFF", "AVIF")
    assert taken[MAKER] == b"its maker's" and INTEROP not in taken and found.get_ifd(GPS)[2] == (47.0, 22.0, 1.5)
    xmp = picture.info["xmp"]
    assert b'tiff:Orientation="1" dc:title="an apple"' in xmp and b"humbnail" not in xmp
    assert not found.get_ifd(1) and SMALL not in written  # the thumbnail would still show what was
    if source in ("JPEG", "PNG", "TIFF") and suffix != ".webp":
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_without_being_asked_for_nothing_is_written(suffix):
    plain = images.encode(SCENE, suffix)
    picture = Image.open(io.BytesIO(plain))
    assert "xmp" not in picture.info and "exif" not in picture.info and not picture.getexif().get_ifd(EXIF)
    for data in (save(RGB, "PNG"), save(RGB, "BMP"), save(RGB, "GIF")):  # nor if there is none
        assert images.metadata_of(data).exif == {} and images.metadata_of(data).xmp == b""
    assert images.encode(SCENE, suffix, kept=images.metadata_of(save(RGB, "PNG"))) == plain


NOTE = "cyclegan model=0123456789abcdef source=123"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("kept", ["all", "XMP", None])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_note_lies_beside_the_pixels_and_what_is_kept(tmp_path, monkeypatch, suffix, kept, alpha):
    metadata_kept = {"all": images.metadata_of(camera("JPEG")), "XMP": metadata.Metadata({}, XMP, None), None: None}[kept]
    more = (SCENE[..., 0] if alpha else None, None, metadata_kept)
    file = tmp_path / f"a{suffix}"
    images.write(file, SCENE, *more, note=NOTE)
    data, plain = file.read_bytes(), images.encode(SCENE, suffix, *more)
    assert NOTE.encode() in data and len(data) - len(plain) < 200  # so it is compressed as it would be
    assert all(np.array_equal(a, b) for a, b in zip(images.decode_with_alpha(data), images.decode_with_alpha(plain), strict=True))
    found = [Image.open(io.BytesIO(one)) for one in (data, plain)]
    assert dict(found[0].getexif()).get(0x010F) == ("a camera" if kept == "all" else None)
    assert found[0].info.get("xmp") == found[1].info.get("xmp") and found[0].info.get("dpi") == found[1].info.get("dpi")
    if suffix == ".tif":
        assert tifffile.TiffFile(file).pages[0].tags[11].value == NOTE  # ProcessingSoftware
    for name in ("ImageFile.ImageFile.load", "WebPImagePlugin.WebPImageFile.load"):
        monkeypatch.setattr(f"PIL.{name}", lambda self: pytest.fail("decoded"))
    assert metadata.note_of(file) == NOTE


def test_a_note_stays_where_what_is_kept_cannot_be_written(tmp_path):
    odd = metadata.Metadata({0x011A: "no number"}, b"", None)
    for suffix in images.FORMATS:
        images.write(tmp_path / f"a{suffix}", SCENE, kept=odd, note=NOTE)
        assert metadata.note_of(tmp_path / f"a{suffix}") == NOTE


def test_dots_per_inch_alone_are_kept_too():
    kept = images.metadata_of(save(RGB, "PNG", dpi=(72, 72)))
    for suffix in (".jpg", ".png", ".tif"):
        assert Image.open(io.BytesIO(images.encode(SCENE, suffix, kept=kept))).info["dpi"] == pytest.approx((72, 72), abs=0.01)
    assert Image.open(io.BytesIO(images.encode(SCENE, ".webp", kept=kept))).getexif()[0x011A] == pytest.approx(72, abs=0.01)


def test_what_jpeg_has_no_room_for_costs_nothing_else():
    long = images.metadata_of(save(RGB, "PNG", exif=exif(taken={MAKER: bytes(70_000)})))
    picture = Image.open(io.BytesIO(images.encode(SCENE, ".jpg", kept=long)))
    taken = picture.getexif().get_ifd(EXIF)
    assert MAKER not in taken and taken[0x9003] == "2026:01:02 03:04:05"
    longer = metadata.Metadata({0x010F: "a camera", 0x010E: "long" * 20_000}, b"<x>" * 30_000, (72, 72))
    picture = Image.open(io.BytesIO(images.encode(SCENE, ".jpg", kept=longer)))
    assert picture.info["dpi"] == (72, 72) and not picture.getexif() and "xmp" not in picture.info


@pytest.mark.filterwarnings("ignore::UserWarning")  # pytest undoes the filter of ours
def test_damaged_metadata_count_as_none():
    data = save(RGB, "JPEG", exif=exif())
    start = data.index(b"Exif\0\0") + 6
    for at in range(start, start + 300, 3):
        damaged = images.metadata_of(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        for suffix in (".jpg", ".png"):
            assert images.decode(images.encode(SCENE, suffix, kept=damaged)).shape == SCENE.shape
    odd = metadata.Metadata({0x011A: "no number"}, b"", None)
    for suffix in images.FORMATS:
        assert images.decode(images.encode(SCENE, suffix, kept=odd)).shape == SCENE.shape
    png = save(RGB, "PNG")
    assert images.metadata_of(png[:33] + png_chunk(b"eXIf", b"II*\0nothing") + png[33:]).exif == {}
