"""What is measured of one way of translating, of functions and pictures that are known."""

import numpy as np
import pytest
from conftest import draw

from pictures import images
from quality import directions, metrics
from quality.directions import COLOUR_CHANGE, SHEET_COLUMNS, UNTRANSLATED, Direction
from quality.features import Features
from system.cli import InputError

INPUTS = {f"x/{i}": draw(i, 16, 24) for i in range(4)}
TRUTHS = {f"x/{i}": draw(10 + i, 32, 48) for i in range(5)}
REAL = [draw(20 + i, 12, 12) for i in range(5)]
NETWORK = Features("pixels", 4, lambda pictures: pictures[:, ::2].reshape(len(pictures), -1))


def halve(picture: np.ndarray) -> np.ndarray:
    return picture // 2


def brighten(picture: np.ndarray) -> np.ndarray:
    return np.uint8(np.minimum(picture * 3.0, 255))


def each(function, *pictures) -> list:
    return [function(*one) for one in zip(*(p.values() if isinstance(p, dict) else p for p in pictures), strict=True)]


def error(a, b) -> float:
    return np.mean(each(metrics.l1, a, b))


@pytest.mark.parametrize(
    ("translated", "cycled", "same", "expected"),
    [(100, 103, 100, (3, 0, 1)), (102, 100, 151, (0, 51, 1)), (103, 100, 100, (0, 0, 0)), (200, 90, 99, (10, 1, 0))],
)
def test_a_round_trip_is_measured_where_it_begins(translated, cycled, same, expected):
    pictures = (np.full((4, 4, 3), value, np.uint8) for value in (100, translated, cycled, same))
    cycle, identity, unchanged = expected
    found = directions.round_trip(*pictures)
    assert found == pytest.approx({"cycle_error": cycle / 255, "identity_error": identity / 255, "unchanged": unchanged})


def test_a_way_there_and_back_is_that_of_both_functions():
    """The cycle error is of F(G(x)), the identity error of F(x), and not of G(x)."""
    found = Direction("G", inputs=INPUTS, translate=halve, back=brighten).measure()
    cycled, same = (each(lambda x: brighten(halve(x)), INPUTS), each(brighten, INPUTS))
    expected = {"cycle_error": error(cycled, INPUTS), "identity_error": error(same, INPUTS), "unchanged": 0}
    assert found == {"fake": "G", "pictures": 4, "round_trip": pytest.approx(expected)}
    assert len({round(value, 3) for value in (*expected.values(), error(each(halve, INPUTS), INPUTS))}) == 4


def test_the_sheet_shows_what_belongs_together():
    direction = Direction("G", inputs=INPUTS, truths=TRUTHS, translate=halve, back=brighten)
    direction.measure()
    assert list(direction.rows) == ["input", "translated", "there and back", "truth"]
    for name, input, translated, back, truth in zip(INPUTS, *direction.rows.values(), strict=True):
        assert np.array_equal(input, INPUTS[name]) and np.array_equal(translated, halve(input))
        assert np.array_equal(back, brighten(translated)) and np.array_equal(truth, images.resize(TRUTHS[name], 16, 24))
    many = {str(i): draw(0, 8, 8) for i in range(SHEET_COLUMNS + 2)}
    direction = Direction("fakes", fakes=many)
    assert direction.measure() == {"fake": "fakes", "pictures": SHEET_COLUMNS + 2} and len(direction.rows["translated"]) == SHEET_COLUMNS


def test_translations_are_compared_with_real_pictures_and_so_are_their_inputs():
    found = Direction("G", inputs=INPUTS, translate=halve).measure(iter(REAL), NETWORK)["to_real"]
    real, fakes, inputs = (NETWORK(pictures) for pictures in (REAL, each(halve, INPUTS), INPUTS.values()))
    for name, vectors in (("translated", fakes), (UNTRANSLATED, inputs)):
        kid, deviation = metrics.kid(real, vectors)
        assert found[name] == {"kid": kid, "kid_standard_error": deviation, "fid": metrics.fid(real, vectors)}
    assert found["fid_of_real_halves"] == metrics.fid(real[::2], real[1::2])
    assert (found["real_pictures"], found["dimensions"], found["features"]) == (5, 24, "pixels")
    assert list(found) == ["real_pictures", "features", "dimensions", "translated", UNTRANSLATED, "fid_of_real_halves"]


def test_the_fakes_decide_which_pictures_are_measured_and_in_which_size():
    fakes = {name: images.resize(INPUTS[name], 6, 9) for name in ("x/2", "x/0", "x/3")}
    found = Direction("fakes", fakes=fakes, inputs=INPUTS).measure(REAL[:4], NETWORK)
    real, inputs = NETWORK(REAL[:4]), NETWORK([images.resize(INPUTS[name], 6, 9) for name in fakes])
    assert found["pictures"] == 3 and found["to_real"][UNTRANSLATED]["fid"] == metrics.fid(real, inputs)
    assert found["to_real"]["fid_of_real_halves"] == metrics.fid(real[::2], real[1::2])


def test_halves_of_three_real_pictures_say_nothing_and_there_may_be_no_inputs():
    found = Direction("fakes", fakes=INPUTS).measure(REAL[:3], NETWORK)["to_real"]
    assert found["fid_of_real_halves"] is None and UNTRANSLATED not in found


def test_translations_are_compared_with_the_truth_and_so_are_their_inputs():
    """All in the sizes of the translations, by name, in whatever order the others are."""
    fakes = {name: images.resize(halve(picture), 20, 30) for name, picture in INPUTS.items()}
    backwards = dict(reversed(TRUTHS.items()))
    found = Direction("fakes", fakes=fakes, inputs=INPUTS, truths=backwards).measure()["to_truth"]
    inputs, truths = ([images.resize(pictures[name], 20, 30) for name in fakes] for pictures in (INPUTS, TRUTHS))
    change = metrics.fit_colour_change(inputs, truths)
    recoloured = [metrics.change_colour(picture, change) for picture in inputs]
    compared = {"translated": list(fakes.values()), UNTRANSLATED: inputs, COLOUR_CHANGE: recoloured}
    for name, pictures in compared.items():
        expected = {metric.__name__: np.mean(each(metric, pictures, truths)) for metric in (metrics.l1, metrics.psnr, metrics.ssim)}
        assert found[name] == pytest.approx(expected)
    assert list(found) == list(compared)
    assert list(Direction("fakes", fakes=fakes, truths=TRUTHS).measure()["to_truth"]) == ["translated"]


def test_the_mean_is_taken_of_each_number_by_itself():
    assert directions.mean(iter([{"a": 1.0, "b": 5.0}, {"b": 6.0, "a": 4.0}])) == {"a": 2.5, "b": 5.5}


@pytest.mark.parametrize("count", [0, 2, 3])
def test_kid_needs_three_pictures(count):
    if count >= 3:
        directions.check_count("folder", count)
    else:
        with pytest.raises(InputError, match=f"^folder: {count} pictures; KID and FID need 3"):
            directions.check_count("folder", count)
