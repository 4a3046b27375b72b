"""What is measured of translators that are known: ones that copy, darken, or are each other's way back."""

import numpy as np
import pytest
from conftest import draw

from pictures import images
from quality import features, held_out, metrics
from quality.held_out import RoundTrip, TestPictures
from system.cli import InputError

X, Y = [draw(i, 40, 60) for i in range(4)], [draw(10 + i, 52, 32) for i in range(3)]


def halve(picture: np.ndarray) -> np.ndarray:
    return picture // 2


def double(picture: np.ndarray) -> np.ndarray:
    return np.uint8(np.minimum(picture.astype(int) * 2, 255))


@pytest.fixture
def folders(tmp_path):
    for folder, pictures in (("x", X), ("y", Y)):
        for i, picture in enumerate(pictures):
            images.write(tmp_path / folder / f"{i}.png", picture)
    return tmp_path / "x", tmp_path / "y"


def test_a_round_trip_is_measured_where_it_begins():
    trip = RoundTrip()
    picture = np.full((4, 4, 3), 100, np.uint8)
    for translated, cycled, same in ((100, 103, 100), (102, 100, 151), (103, 100, 100), (200, 100, 100)):
        trip.take(picture, *(np.full((4, 4, 3), value, np.uint8) for value in (translated, cycled, same)))
    assert trip.result() == pytest.approx({"cycle_error": 3 / 255 / 4, "identity_error": 51 / 255 / 4, "unchanged": 0.5})


def test_both_ways_are_measured(folders, features_file):
    network = features.load(features_file)
    tests = TestPictures(*folders, 16, network)
    numbers, sheet = tests.measure(halve, double)
    squares = {name: [images.centre_square(picture, 16) for picture in pictures] for name, pictures in (("X", X), ("Y", Y))}
    assert {square.shape for pictures in squares.values() for square in pictures} == {(16, 16, 3)}

    def error(a, b):
        return np.mean([metrics.l1(p, q) for p, q in zip(a, b, strict=True)])

    x, y = squares["X"], squares["Y"]
    assert numbers["G_cycle_error"] == pytest.approx(error(x, [double(halve(p)) for p in x])) and numbers["G_cycle_error"] < 1 / 255
    assert numbers["F_cycle_error"] == pytest.approx(error(y, [halve(double(p)) for p in y]))
    assert numbers["G_identity_error"] == pytest.approx(error(x, map(double, x)))
    assert numbers["F_identity_error"] == pytest.approx(error(y, map(halve, y)))
    kid, deviation = metrics.kid(network(y), network([halve(p) for p in x]))
    assert (numbers["G_kid"], numbers["G_kid_standard_error"]) == pytest.approx((kid, deviation))
    assert numbers["F_fid"] == pytest.approx(metrics.fid(network(x), network([double(p) for p in y])))
    assert numbers["G_unchanged"] == numbers["F_unchanged"] == 0
    assert sheet.shape[0] > 6 * 160 and sheet.dtype == np.uint8


def test_a_copier_is_found_out(folders):
    numbers, _ = TestPictures(*folders, 16, None).measure(np.copy, np.copy)
    assert numbers == {f"{G}_{k}": v for G in "GF" for k, v in {"cycle_error": 0, "identity_error": 0, "unchanged": 1}.items()}


def test_measuring_can_be_broken_off(folders):
    seen = []

    def before_each():
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TestPictures(*folders, 16, None).measure(halve, double, before_each)
    assert len(seen) == 3


def test_too_few_pictures_are_refused(folders, features_file):
    (folders[1] / "0.png").unlink()
    with pytest.raises(InputError, match="y: 2 pictures; KID and FID need 3"):
        TestPictures(*folders, 16, features.load(features_file))
    TestPictures(*folders, 16, None)
    assert held_out.check_count(folders[0], 3) is None
