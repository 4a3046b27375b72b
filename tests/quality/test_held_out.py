"""What is measured of translators that are known: ones that copy, darken, or are each other's way back."""

import numpy as np
import pytest
from conftest import draw

from pictures import images
from quality import metrics
from quality.directions import SHEET_COLUMNS
from quality.features import Features
from quality.held_out import TestPairs, TestPictures
from system.cli import InputError

X, Y = [draw(i, 40, 60) for i in range(4)], [draw(10 + i, 52, 32) for i in range(3)]
NETWORK = Features("pixels", 4, lambda pictures: pictures[:, ::2].reshape(len(pictures), -1))


def halve(picture: np.ndarray) -> np.ndarray:
    return picture // 2


def brighten(picture: np.ndarray) -> np.ndarray:
    return np.uint8(np.minimum(picture.astype(int) * 2, 255))


@pytest.fixture
def folders(tmp_path):
    for folder, pictures in (("x", X), ("y", Y)):
        for i, picture in enumerate(pictures):
            images.write(tmp_path / folder / f"{i}.png", picture)
    return tmp_path / "x", tmp_path / "y"


def test_transparent_pictures_are_those_that_networks_see(folders):
    """In training and in use: what is hidden shows nowhere, nor does white."""
    alpha = np.zeros((40, 60), np.uint8)
    alpha[10:30, 20:40], alpha[9, 20:40] = 255, 9
    images.write(folders[0] / "0.png", np.where(alpha[..., np.newaxis] > 0, np.uint8([60, 20, 10]), np.uint8([0, 255, 0])), alpha)
    seen = TestPictures(*folders, 16, None).shown["X"][0]
    assert seen.shape == (16, 16, 3) and (seen == (60, 20, 10)).all()


def test_both_ways_are_measured(folders, monkeypatch):
    sheets, sheet_of = [], images.contact_sheet
    monkeypatch.setattr(images, "contact_sheet", lambda rows: sheets.append(rows) or sheet_of(rows))
    tests = TestPictures(*folders, 16, NETWORK)
    numbers, sheet = tests.measure(halve, brighten)
    x, y = ([images.centre_square(picture, 16) for picture in pictures] for pictures in (X, Y))
    assert {square.shape for square in x + y} == {(16, 16, 3)}

    def error(a, b):
        return np.mean([metrics.l1(p, q) for p, q in zip(a, b, strict=True)])

    for name, source, target, G, F in (("G", x, y, halve, brighten), ("F", y, x, brighten, halve)):
        fakes, real = [G(picture) for picture in source], NETWORK(target)
        assert numbers[f"{name}_cycle_error"] == pytest.approx(error(source, map(F, fakes)))
        assert numbers[f"{name}_identity_error"] == pytest.approx(error(source, map(F, source)))
        assert numbers[f"{name}_unchanged"] == 0
        kid, deviation = metrics.kid(real, NETWORK(fakes))
        assert (numbers[f"{name}_kid"], numbers[f"{name}_kid_standard_error"]) == pytest.approx((kid, deviation))
        assert numbers[f"{name}_fid"] == pytest.approx(metrics.fid(real, NETWORK(fakes)))
    assert len(numbers) == 12 and numbers["G_cycle_error"] < 1 / 255 and tests.features is NETWORK

    ((rows),) = sheets
    assert [label for label, _ in rows] == ["X", "G(X)", "and back", "Y", "F(Y)", "and back"]
    expected = [x, [*map(halve, x)], [brighten(halve(p)) for p in x], y, [*map(brighten, y)], [halve(brighten(p)) for p in y]]
    assert all(np.array_equal(found, row) for (_, found), row in zip(rows, expected, strict=True))
    assert sheet.shape[0] > 6 * 160 and sheet.dtype == np.uint8


def test_the_sheet_shows_the_first_of_many(tmp_path):
    for i in range(SHEET_COLUMNS + 1):
        images.write(tmp_path / f"{i}.png", draw(i, 16, 16))
    tests = TestPictures(tmp_path, tmp_path, 16, None)
    assert [len(pictures) for pictures in tests.shown.values()] == [SHEET_COLUMNS] * 2


def test_a_copier_is_found_out(folders):
    numbers, _ = TestPictures(*folders, 16, None).measure(np.copy, np.copy)
    assert numbers == {f"{G}_{k}": v for G in "GF" for k, v in {"cycle_error": 0, "identity_error": 0, "unchanged": 1}.items()}


def test_measuring_can_be_broken_off(folders):
    """Before any picture, of the second translation too."""
    seen = []

    def before_each():
        seen.append(1)
        if len(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TestPictures(*folders, 16, None).measure(halve, brighten, before_each)
    assert len(seen) == 6
    seen.extend([1])
    TestPictures(*folders, 16, None).measure(halve, brighten, before_each)
    assert len(seen) == 7 + len(X) + len(Y)


def test_too_few_pictures_are_refused(folders):
    (folders[1] / "0.png").unlink()
    with pytest.raises(InputError, match="y: 2 pictures; KID and FID need 3"):
        TestPictures(*folders, 16, NETWORK)
    with pytest.raises(InputError, match="y: 2 pictures; KID and FID need 3"):
        TestPictures(*folders[::-1], 16, NETWORK)
    TestPictures(*folders, 16, None)


def test_the_score_is_the_sum_of_both_kids(folders):
    tests = TestPictures(*folders, 16, NETWORK)
    numbers, _ = tests.measure(halve, brighten)
    assert tests.score(numbers) == numbers["G_kid"] + numbers["F_kid"]
    assert [word.split()[:2] for word in tests.words(numbers)] == [["G", "KID×1000"], ["F", "KID×1000"], ["cycle", "error"]]
    tests.features = None
    assert tests.score({"G_cycle_error": 0.1}) is None and tests.words(numbers)[0].startswith("cycle error")


def test_pairs_are_measured_against_their_truth(tmp_path):
    for i, picture in enumerate(X):
        images.write(tmp_path / "x" / f"{i}_A.png", picture)
        images.write(tmp_path / "y" / f"{i}_B.png", brighten(picture))
    tests, calls = TestPairs(tmp_path / "x", tmp_path / "y", 16, NETWORK), []
    numbers, sheet = tests.measure(halve, lambda: calls.append(1))
    pairs = [(images.centre_square(x, 16), images.centre_square(brighten(x), 16)) for x in X]
    for name, distance in (("l1", metrics.l1), ("psnr", metrics.psnr), ("ssim", metrics.ssim)):
        assert numbers[f"G_{name}"] == pytest.approx(np.mean([distance(halve(x), y) for x, y in pairs]))
    assert numbers["G_kid"] == pytest.approx(metrics.kid(NETWORK([y for _, y in pairs]), NETWORK([halve(x) for x, _ in pairs]))[0])
    assert tests.score(numbers) == numbers["G_l1"] and tests.score({}) is None and len(calls) == len(X)
    assert [word.split()[0] for word in tests.words(numbers)] == ["L1", "PSNR", "SSIM"] and sheet.shape[0] > 3 * 160
    assert TestPairs(tmp_path / "x", tmp_path / "y", 16, None).measure(np.copy)[0].keys() == {"G_l1", "G_psnr", "G_ssim"}


def test_test_pictures_of_no_pairs_are_refused(folders):
    with pytest.raises(InputError, match="x: 3 has no partner .*; take out"):
        TestPairs(*folders, 16, None)
