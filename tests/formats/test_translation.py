"""Pictures on their way through models that are plain functions: which size, which order, which file, and nothing mixed up."""

import io
import os
import re
import subprocess
import sys
import types
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from conftest import draw
from photos import ALPHA, DAMAGED, LOSSY, ODD, PLAIN, SCENE, difference
from PIL import Image

from formats import translation
from formats.translation import PIPE, Job, Translation, size_for
from pictures import cutouts, gallery, images, tiling

ROOT = Path(__file__).parents[2]
G, F = (lambda x: 255 - x // 2), (lambda x: x // 4 * 3)


class Model:
    """Stands in for a `Translator`: computes `change`, and remembers the shapes of what it was given."""

    multiple, smallest, sees_whole_pictures, knows_statistics, device, checksum = 4, 8, True, False, "CPU", "0123456789abcdef"

    def __init__(self, change=G, image_size=32, fixed_size=None, most=1 << 40, name="apple2orange.pb", **metadata):
        self.change, self.image_size, self.fixed_size, self.most = change, image_size, fixed_size, most
        self.file, self.metadata, self.shapes = Path(name), metadata, []

    def __call__(self, pictures, statistics=None):
        if pictures[..., 0].size > self.most:
            raise MemoryError
        self.shapes.append(pictures.shape[:3])
        return self.change(pictures)

    def statistics(self, parts):
        return None


def jobs_for(folder: Path, pictures: dict[str, np.ndarray], way_back: bool = False) -> list[Job]:
    """Writes pictures, of three channels or four, into `folder`/in; they are to come out in `folder`/out."""
    (folder / "in").mkdir(exist_ok=True)
    jobs = []
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / "in" / name)
        back = [folder / "out" / f"{Path(name).stem}_back.png"] if way_back else []
        jobs.append(Job(folder / "in" / name, name, [folder / "out" / name, *back]))
    return jobs


def run(model: Model, jobs: list[Job], *more, **settings) -> Translation:
    found = Translation(model, *more, **settings)
    found.run(jobs)
    return found


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


# --- which size


@pytest.mark.parametrize(
    ("height", "width", "settings", "expected"),
    [
        (64, 96, {}, (32, 48)),
        (96, 64, {}, (48, 32)),
        (10, 25, {}, (32, 80)),
        (33, 100, {"image_size": None}, (32, 97)),
        (64, 96, {"image_size": 24}, (24, 24)),
        (64, 97, {"keep_size": True}, (64, 97)),
        (5, 3, {"keep_size": True}, (5, 3)),
    ],
)
def test_the_size_of_a_picture_is_decided_once(tmp_path, height, width, settings, expected):
    model = Model()
    assert size_for(model, height, width, **settings) == expected
    (job,) = jobs_for(tmp_path, {"a.png": draw(0, height, width)})
    run(model, [job], **settings)
    assert model.shapes == [(1, *expected)]
    assert np.array_equal(pixels(job.outputs[0]), G(images.resize(draw(0, height, width), *expected)))


def test_the_size_is_that_of_the_model_and_not_of_the_way_back(tmp_path):
    (job,) = jobs_for(tmp_path, {"a.png": draw(0)}, way_back=True)
    run(Model(image_size=24), [job], Model(F, image_size=16))
    assert [pixels(file).shape for file in job.outputs] == [(24, 24, 3)] * 2


@pytest.mark.parametrize(
    ("settings", "most", "reason"),
    [
        ({"keep_size": True}, 20 * 32, None),
        ({"keep_size": True}, 20 * 32 - 1, "30×20 would be computed as 32×20, more than --max_megapixels"),
        ({"keep_size": True}, 20 * 30 - 1, "30×20 is more than 0 megapixels"),
        ({}, 32 * 48, None),
        ({}, 32 * 48 - 1, "30×20 would be computed as 48×32, more than --max_megapixels; try --keep_size"),
    ],
)
def test_pictures_that_are_or_would_become_too_large_are_left_out(tmp_path, settings, most, reason):
    jobs = jobs_for(tmp_path, {"a.png": draw(0, 20, 30)})
    assert run(Model(), jobs, max_pixels=most, **settings).left_out == ([f"{jobs[0].source}: {reason}"] if reason else [])
    assert jobs[0].outputs[0].exists() == (reason is None)


# --- pictures of every kind


OWN_SIZE, SHORT_SIDE, SQUARE = ({"keep_size": True}, (40, 56)), ({}, (32, 45)), ({"image_size": 40}, (40, 40))
KINDS = [(name, *OWN_SIZE) for name in (*PLAIN, *ODD)]
for name in ("PNG", "JPEG orientation 6", "PNG alpha", "PNG palette with a transparent colour", "PNG grey 16 bit", "JPEG CMYK", "GIF"):
    KINDS += [(name, *SHORT_SIDE), (name, *SQUARE)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "settings", "shape"), KINDS)
def test_pictures_of_every_kind_are_translated_as_people_see_them(tmp_path, name, settings, shape):
    """Size, mode, orientation and pixels are those of the same scene as a plain PNG; alpha comes back, and orientation is not written."""
    data, scene, tolerance = ODD.get(name) or (PLAIN[name], SCENE, LOSSY if "JPEG" in name else 0)
    (tmp_path / "a.png").write_bytes(data)
    job = Job(tmp_path / "a.png", "a.png", [tmp_path / "b.png"])
    assert not run(Model(lambda x: 255 - x), [job], **settings).left_out

    translated = Image.open(tmp_path / "b.png")
    transparent = Image.open(io.BytesIO(data)).has_transparency_data
    assert (translated.size, translated.mode) == (shape[::-1], "RGBA" if transparent else "RGB")
    assert not translated.getexif() and "icc_profile" not in translated.info
    if transparent:
        plain, alpha = cutouts.resize(*images.decode_with_alpha(data), *shape)
        assert np.array_equal(translated.getchannel("A"), alpha)
    else:
        plain = images.resize(np.uint8(np.rint(scene)), *shape)
    assert difference(np.asarray(translated.convert("RGB")), 255 - plain) <= tolerance


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tif"])
def test_alpha_is_kept_by_every_format_that_has_it(tmp_path, format):
    (tmp_path / "a.png").write_bytes(ODD["PNG alpha"][0])
    job = Job(tmp_path / "a.png", "a.png", [tmp_path / f"b.{format}"])
    assert not run(Model(), [job], keep_size=True).left_out
    translated = Image.open(job.outputs[0])
    if format == "jpg":
        assert translated.mode == "RGB" and np.asarray(translated)[:, 0].min() > 240  # where nothing was to be seen it is white
    else:
        assert np.array_equal(translated.getchannel("A"), ALPHA)


# --- nothing is mixed up


@pytest.fixture
def several(tmp_path) -> dict[str, np.ndarray]:
    """Pictures of one size, two with alpha, that are translated together."""
    alpha = [np.full((32, 32, 1), value, np.uint8) for value in (50, 200)]
    return {"a.png": draw(0, 32, 32), "b.png": np.dstack([draw(1, 32, 32), alpha[0]]), "c.png": np.dstack([draw(2, 32, 32), alpha[1]])}


def test_each_translation_goes_to_its_file_with_its_own_alpha(tmp_path, several):
    jobs, model = jobs_for(tmp_path, several), Model()
    run(model, jobs)
    assert model.shapes == [(3, 32, 32)]
    for job, picture in zip(jobs, several.values(), strict=True):
        assert np.array_equal(pixels(job.outputs[0]), np.dstack([G(picture[..., :3]), picture[..., 3:]]))


def test_the_way_back_begins_at_the_translation_and_is_measured_against_the_input(tmp_path, several):
    jobs = jobs_for(tmp_path, several, way_back=True)
    found = run(Model(), jobs, Model(F))
    for job, picture, differs in zip(jobs, several.values(), found.differences, strict=True):
        colours = picture[..., :3]
        translated, back = (pixels(file)[..., :3] for file in job.outputs)
        assert np.array_equal(translated, G(colours)) and np.array_equal(back, F(G(colours)))
        assert differs == pytest.approx(np.abs(F(G(colours)) - colours.astype(float)).mean() / 255)
    assert len(set(found.differences)) == 3


@pytest.mark.parametrize("back", [False, True])
def test_side_by_side_are_input_output_and_way_back_in_this_order(tmp_path, several, back):
    jobs = jobs_for(tmp_path, several)
    run(Model(), jobs, *([Model(F)] if back else []), side_by_side=True)
    for job, picture in zip(jobs, several.values(), strict=True):
        colours, alpha = picture[..., :3], picture[..., 3:]
        parts = [colours, G(colours), *([F(G(colours))] if back else [])]
        assert np.array_equal(pixels(job.outputs[0]), np.concatenate([np.dstack([part, alpha]) for part in parts], axis=1))


def test_the_page_shows_what_was_made_and_what_existed_in_their_order(tmp_path, several):
    jobs = jobs_for(tmp_path, several, way_back=True)
    old = {"a.png": draw(7, 20, 30), "a_back.png": draw(8, 20, 30)}
    (tmp_path / "out").mkdir()
    for name, picture in old.items():
        images.write(tmp_path / "out" / name, picture)
    broken = Job(tmp_path / "no.png", "no.png", [])
    names = {"source": "apple", "target": "orange"}
    found = run(Model(name="there.pb", **names), jobs[1:], Model(F, name="back.pb"), thumbnails=True)
    found.write_gallery(tmp_path / "page.html", [*jobs, broken])
    shown = {"a.png": [several["a.png"], *old.values()]}
    shown |= {name: [several[name][..., :3], *(f(several[name][..., :3]) for f in (G, lambda x: F(G(x))))] for name in ("b.png", "c.png")}

    page = (tmp_path / "page.html").read_text()
    thumbnails = [b64decode(data) for data in re.findall(r'src="data:image/jpeg;base64,([^"]*)"', page)]
    alphas = {name: picture[..., 3] for name, picture in several.items() if picture.shape[2] == 4}  # people see them on white
    assert thumbnails == [gallery.thumbnail(picture, alphas.get(name)) for name, pictures in shown.items() for picture in pictures]
    assert re.findall(r'"name" colspan="3">([^<]*)<', page) == ["a.png", "b.png", "c.png"]
    assert re.findall(r"<th>([^<]*)<", page) == ["apple", "orange (generated)", "apple (back again)"]
    assert "<h1>apple → orange</h1>" in page and "<p>there.pb, back with back.pb</p>" in page
    assert not run(Model(), jobs, Model(F)).shown  # which would take memory for nothing


def test_the_page_is_utf8_whatever_the_names_and_the_system(tmp_path):
    """Under the POSIX locale, in a process of its own, Python writes ASCII, and gets names in pieces."""
    code = """if True:
        import os, sys, types
        from pathlib import Path
        from formats.translation import Job, Translation
        names = [os.fsdecode(name) for name in (b"a\\xc3\\xbc.png", b"b\\xfc.png")]
        model = types.SimpleNamespace(file="m.pb", metadata={"ngf": 1}, fixed_size=None, checksum="")
        made = Translation(model, tile=64, thumbnails=True)
        made.shown = {name: [b"1", b"2"] for name in names}
        made.write_gallery(Path(sys.argv[1]), [Job(Path(name), name, []) for name in names])
    """
    for system in ({"PYTHONUTF8": "0", "LC_ALL": "POSIX"}, {"PYTHONUTF8": "1"}):
        command = [sys.executable, "-c", code, tmp_path / "page.html"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, env={**os.environ, **system})
        assert done.returncode == 0, done.stderr
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert ">aü.png<" in page and ">b�.png<" in page and "source → target" in page


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_pipe_holds_one_picture(monkeypatch, several, suffix):
    data, out = io.BytesIO(), io.BytesIO()
    Image.fromarray(several["b.png"]).save(data, "PNG")
    data.seek(0)
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=data))
    monkeypatch.setattr("sys.stdout", types.SimpleNamespace(buffer=out))
    run(Model(), [Job(PIPE, "-", [PIPE])], pipe_format=suffix)
    assert out.getvalue() == images.encode(G(several["b.png"][..., :3]), suffix, several["b.png"][..., 3])


def test_what_cannot_be_read_or_written_is_named_and_all_else_made(tmp_path):
    jobs = jobs_for(tmp_path, {f"{name}.png": draw(0, 32, 32) for name in "abc"})
    jobs[1].source.write_bytes(b"no picture")
    jobs[2].outputs = [tmp_path / "out" / "c.webp"]
    jobs += jobs_for(tmp_path, {"d.png": draw(3, 32, 32)}) + [Job(tmp_path / "nowhere.png", "nowhere.png", [tmp_path / "out" / "e.png"])]
    found = run(Model(lambda x: np.tile(G(x), (1, 1, 600, 1))), jobs)  # WebP has no picture so wide
    (unreadable, unwritable, missing) = sorted(found.left_out)
    assert unreadable == f"{jobs[1].source}: not a picture of a format that is read"
    assert missing == f"{tmp_path / 'nowhere.png'}: No such file or directory"
    assert unwritable.startswith(f"{jobs[2].source}: 19200×32 cannot be written as WEBP")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"a.png", "d.png"}


@pytest.mark.parametrize(
    ("name", "side_by_side", "words"), [("a.jpg", False, "65501×1"), ("a.webp", False, "65501×1"), ("a.jpg", True, "131000×1")]
)
def test_what_does_not_fit_its_format_is_not_translated(tmp_path, capfd, name, side_by_side, words):
    (job,) = jobs_for(tmp_path, {"a.png": np.zeros((1, 65_500 if side_by_side else 65_501, 3), np.uint8)})
    job.outputs, model = [tmp_path / name], Model()
    most = 65_500 if name == "a.jpg" else 16_383
    reason = f"{words} cannot be written as {images.FORMATS[job.outputs[0].suffix]}, which has {most} pixels a side at most; use png"
    found = run(model, [job], keep_size=True, side_by_side=side_by_side)
    assert (found.left_out, model.shapes, capfd.readouterr().err) == ([f"{job.source}: {reason}"], [], "")


def test_large_pictures_are_decoded_when_it_is_their_turn_and_come_out_the_same(tmp_path, several, monkeypatch):
    jobs = jobs_for(tmp_path, {**several, "d.png": draw(3, 32, 40)})
    (tmp_path / "in" / "c.png").write_bytes((tmp_path / "in" / "c.png").read_bytes()[:-40])
    monkeypatch.setattr(translation, "LARGE", 32 * 32)
    assert isinstance(Translation(Model()).read(jobs[0]), bytes)
    found = run(Model(), jobs)
    assert [line.partition(": ")[0] for line in found.left_out] == [str(tmp_path / "in" / "c.png")]
    assert np.array_equal(pixels(jobs[1].outputs[0])[..., :3], G(several["b.png"][..., :3])) and jobs[3].outputs[0].exists()
    jobs[0].source.write_bytes(DAMAGED["bomb"])
    assert isinstance(Translation(Model(), max_pixels=10**9).read(jobs[0]), bytes)
    assert str(Translation(Model()).read(jobs[0])) == "20000×20000 is more than 100 megapixels"


def test_others_are_decoded_ahead_of_time(tmp_path, several, monkeypatch):
    jobs = jobs_for(tmp_path, several)
    monkeypatch.setattr(translation, "LARGE", 32 * 32 + 1)
    assert isinstance(Translation(Model()).read(jobs[0])[0], np.ndarray)


# --- how many at once, and how much of each


@pytest.mark.parametrize(
    ("most", "settings", "fixed", "expected"),
    [
        (1 << 20, {}, (None, None), [3, 1, 2]),
        (2 * 32 * 32, {}, (None, None), [2, 1, 1, 2]),
        (2 * 32 * 32 - 1, {}, (None, None), [1] * 6),
        (1 << 20, {"tile": 64}, (None, None), [3, 1, 2]),
        (1 << 20, {"tile": 64}, (None, "padded"), [1] * 6),
        (1 << 20, {"tile": 48}, (None, None), [2, 1, 1, 2]),
        (1 << 20, {}, (64, None), [1] * 6),
        (1 << 20, {}, (None, 64), [1] * 6),
    ],
)
def test_pictures_of_one_size_are_translated_together_within_limits(tmp_path, monkeypatch, most, settings, fixed, expected):
    monkeypatch.setattr(translation, "BATCH_PIXELS", most)
    pictures = {f"{i}.png": draw(i, 32, 40 if i == 3 else 32) for i in range(6)}
    jobs, (there, back) = (
        jobs_for(tmp_path, pictures, way_back=True),
        (Model(f, fixed_size=None if side == "padded" else side) for f, side in zip((G, F), fixed, strict=True)),
    )
    if fixed[1] == "padded":
        back.smallest = 64
    run(there, jobs, back, **settings)
    assert [shape[0] for shape in there.shapes] == expected == [shape[0] for shape in back.shapes]
    for job, picture in zip(jobs, pictures.values(), strict=True):
        assert np.array_equal(pixels(job.outputs[0]), G(picture))


def test_tiles_shrink_until_memory_is_enough(tmp_path, monkeypatch):
    """A pass of several pictures is divided first; below the least tile it is an error."""
    monkeypatch.setattr(tiling, "LEAST", 64)
    monkeypatch.setattr(translation, "BATCH_PIXELS", 10**5)
    jobs = jobs_for(tmp_path, {"0.png": draw(0, 80, 80), "1.png": draw(1, 80, 80), "2.png": draw(2, 200, 140)})
    model = Model(most=100 * 100)
    found = run(model, jobs, keep_size=True, tile=300)
    assert model.shapes[:2] == [(1, 80, 80), (1, 80, 80)] and found.tile == 75
    assert max(height * width for _, height, width in model.shapes[2:]) < 76**2
    for i, shape in enumerate([(80, 80), (80, 80), (200, 140)]):
        assert np.array_equal(pixels(jobs[i].outputs[0]), G(draw(i, *shape)))
    with pytest.raises(MemoryError):
        run(Model(most=60 * 60), jobs[:1], keep_size=True, tile=300)


def test_tiles_shrink_on_the_way_back_too(tmp_path, monkeypatch):
    monkeypatch.setattr(tiling, "LEAST", 64)
    (job,) = jobs_for(tmp_path, {"a.png": draw(0, 80, 90)}, way_back=True)
    run(Model(), [job], Model(F, most=76**2), keep_size=True, tile=100)
    assert np.array_equal(pixels(job.outputs[1]), F(G(draw(0, 80, 90))))


def test_progress_counts_every_picture_once(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(translation.Progress, "update", lambda self, done, describe=str: shown.append((done, self.total, describe())))
    jobs = jobs_for(tmp_path, {f"{i}.png": draw(i, *((32, 32) if i < 3 else (48, 96))) for i in range(6)})
    jobs[4].source.write_bytes(b"no picture")
    run(Model(), jobs, keep_size=True, tile=64)
    assert [line for line in shown if not line[2]] == [
        (3, 6, ""),
        (5, 6, ""),
        (6, 6, ""),
    ]  # the fifth is left out
    assert [line[2] for line in shown if line[2]] == [f"{i}.png: tile {n} of 2" for i in (3, 5) for n in (1, 2)]


def test_it_says_once_that_tiles_are_only_blended(tmp_path, capsys):
    jobs = jobs_for(tmp_path, {"0.png": draw(0, 80, 80), "1.png": draw(1, 80, 90)})
    words = "apple2orange.pb: gives no statistics of whole pictures: tiles are blended, but can differ in tone\n"
    run(Model(), jobs, keep_size=True, tile=64)
    assert capsys.readouterr().err.count(words) == 1
    run(Model(), jobs, keep_size=True, tile=100)
    for name, value in (("knows_statistics", True), ("sees_whole_pictures", False)):
        model = Model()
        setattr(model, name, value)
        run(model, jobs, keep_size=True, tile=64)
    assert capsys.readouterr().err == ""


def test_it_says_once_that_a_unet_sees_more_than_a_tile(tmp_path, capsys):
    jobs = jobs_for(tmp_path, {"0.png": draw(0, 80, 80), "1.png": draw(1, 80, 90)})
    words = "apple2orange.pb: is a U-Net: tiles do not see the whole picture, and can differ\n"
    for knows_statistics in (True, False):
        model = Model(generator="unet")
        model.knows_statistics = knows_statistics
        run(model, jobs, keep_size=True, tile=64)
        assert capsys.readouterr().err == words
    run(model, jobs, keep_size=True, tile=100)
    assert capsys.readouterr().err == ""


def test_a_tile_is_what_memory_allows_both_models(monkeypatch):
    monkeypatch.setattr(tiling, "free_memory", lambda: 2 * 40 * 64 * 1000**2)
    assert [Translation(*models).tile for models in ([Model()], [Model(), Model(ngf=16)], [Model(), Model(ngf=100)])] == [1000, 1000, 800]
    assert Translation(Model(), tile=64).tile == 64
