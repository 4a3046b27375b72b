"""Translations that are known to be right, or wrong by a known amount, get the numbers that they deserve."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import draw, snapshot

import evaluate
import images
import metrics

INPUTS = [draw(i, 40, 56) for i in range(3)]
RED = np.array([[0.5, 0.1, 0.0], [0.0, 0.4, -0.2], [0.2, 0.0, 0.6], [10.0, 40.0, 60.0]])
RECOLOURED = [metrics.change_colour(picture, RED) for picture in INPUTS]
FLIPPED = [picture[::-1] for picture in INPUTS]
ROUNDING = 1 / 255


def brighter(pictures: list[np.ndarray], by: int) -> list[np.ndarray]:
    return [np.uint8(picture // 2 + by) for picture in pictures]


@pytest.fixture
def score(call, tmp_path):
    """`score(input=…, fake=…, truth=…)` writes lists of pictures into folders of these names and returns the one result."""

    def score(**folders: list[np.ndarray]) -> dict:
        for name, pictures in folders.items():
            write(tmp_path / name, pictures)
        outcome = call(evaluate.main, *flags(tmp_path), "--json", tmp_path / "result.json")
        assert (outcome.status, outcome.err) == (0, "")
        (result,) = json.loads((tmp_path / "result.json").read_text())
        assert all(f"{100 * v:.2f}" in outcome.out for v in result.values() if isinstance(v, float))
        return result

    return score


def write(folder: Path, pictures: list[np.ndarray], suffix: str = ".png") -> None:
    for i, picture in enumerate(pictures):
        images.write(folder / "sub" / f"{i}{suffix}", picture)


def flags(folder: Path) -> list:
    return [x for name in ("input", "fake", "truth") for x in (f"--{name}", folder / name)]


@pytest.mark.parametrize(
    "fake, truth, translated",
    [(FLIPPED, FLIPPED, 0), (brighter(FLIPPED, 30), brighter(FLIPPED, 10), 20 / 255), (brighter(INPUTS, 0), brighter(INPUTS, 51), 0.2)],
)
def test_translations_are_measured_from_the_truth(score, fake, truth, translated):
    result = score(input=INPUTS, fake=fake, truth=truth)
    assert result["pictures"] == 3
    assert result["translated"] == pytest.approx(translated, abs=1e-9)
    untranslated = np.mean([np.abs(a - b.astype(float)) for a, b in zip(INPUTS, truth, strict=True)]) / 255
    assert result["untranslated"] == pytest.approx(untranslated, abs=1e-9)


@pytest.mark.parametrize("truth, low, high", [(RECOLOURED, 0, ROUNDING), (INPUTS, 0, 1e-9), (FLIPPED, 0.1, 1)])
def test_a_mere_change_of_colours_is_measured_too(score, truth, low, high):
    """It explains a recoloured truth, and no moved one."""
    assert low <= score(input=INPUTS, fake=INPUTS, truth=truth)["colour change"] <= high


def test_pictures_belong_together_by_name_and_take_the_translations_size(score, tmp_path):
    write(tmp_path / "truth", [np.full((80, 112, 3), value, np.uint8) for value in (0, 100, 200, 250)])
    for file in (tmp_path / "truth" / "sub").iterdir():
        file.rename(file.with_suffix(".BMP"))  # Pillow goes by the content
    result = score(input=[picture[::2, ::2] for picture in INPUTS], fake=[np.full((40, 56, 3), v, np.uint8) for v in (0, 100, 200)])
    assert (result["pictures"], result["translated"]) == (3, 0)  # the fourth truth has no translation


def test_each_direction_is_a_result_and_three_rows_of_the_sheet(call, tmp_path):
    for name, pictures in {"x": INPUTS, "y": FLIPPED}.items():
        write(tmp_path / name, pictures)
    x, y = tmp_path / "x", tmp_path / "y"
    results, sheet = tmp_path / "new" / "results.json", tmp_path / "new" / "sheet.png"
    outcome = call(evaluate.main, "--input", x, y, "--fake", y, y, "--truth", y, x, "--json", results, "--sheet", sheet)
    first, second = json.loads(results.read_text())
    assert (first["translated"], second["untranslated"]) == (0, second["translated"])
    assert second["translated"] == pytest.approx(first["untranslated"]) and second["translated"] > 0.1
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [str(y), str(y)]
    assert images.read(sheet).shape[0] > 6 * 100


@pytest.fixture
def folders(tmp_path) -> Path:
    """A folder with input, fake and truth of two pictures each, and some that are wrong."""
    for name in ("input", "fake", "truth", "two suffixes", "unreadable"):
        write(tmp_path / name, INPUTS[:2])
    write(tmp_path / "too few", INPUTS[:1])
    write(tmp_path / "two suffixes", INPUTS[:1], ".jpg")
    (tmp_path / "unreadable" / "sub" / "1.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.json").write_text("old")
    images.write(tmp_path / "old.png", INPUTS[0])
    return tmp_path


@pytest.mark.parametrize(
    "wrong, words",
    [
        (["--truth", "too few"], ["too few: has no picture sub/1", "1 missing"]),
        (["--input", "too few"], ["too few: has no picture sub/1"]),
        (["--fake", "two suffixes"], ["two suffixes/sub/0.png", "0.jpg", "same name"]),
        (["--truth", "unreadable"], ["unreadable/sub/1.png", "not a picture"]),
        (["--fake", "empty"], ["empty: no picture"]),
        (["--fake", "nowhere"], ["nowhere: no such folder"]),
        (["--fake", "fake", "truth"], ["--fake, --truth and --input", "2, 1 and 1"]),
        (["--sheet", "new/sheet.gif"], ["--sheet", "sheet.gif", ".png .jpg"]),
        (["--sheet", "old.png"], ["old.png", "exists", "--overwrite"]),
        (["--json", "old.json"], ["old.json", "exists", "--overwrite"]),
        (["--json", "empty", "--overwrite"], ["--json empty: is a folder"]),
        (["--tru", "truth"], ["--tru"]),
        (["--json"], ["--json: expected one argument"]),
    ],
)
def test_wrong_input_is_refused_and_leaves_nothing(call, folders, monkeypatch, wrong, words):
    monkeypatch.chdir(folders)
    before, entries = snapshot(folders), set(folders.rglob("*"))
    outputs = [] if wrong[0] in ("--json", "--sheet") else ["--json", "new/result.json", "--sheet", "new/sheet.png"]
    outcome = call(evaluate.main, *flags(Path()), *outputs, *wrong)
    outcome.assert_refused(*words)
    assert outcome.out == "" and snapshot(folders) == before and set(folders.rglob("*")) == entries


@pytest.mark.parametrize("missing", ["--fake", "--truth", "--input"])
def test_all_three_are_needed(call, missing):
    given = [x for flag in ("--fake", "--truth", "--input") if flag != missing for x in (flag, "folder")]
    call(evaluate.main, *given).assert_refused(missing)


def test_overwrite_replaces_outputs(call, folders):
    call(evaluate.main, *flags(folders), "--json", folders / "old.json", "--sheet", folders / "old.png", "--overwrite")
    assert json.loads((folders / "old.json").read_text())[0]["translated"] == 0
    assert images.read(folders / "old.png").shape != INPUTS[0].shape
