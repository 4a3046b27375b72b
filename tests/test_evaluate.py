"""Translations that are known to be right, or wrong by a known amount, get the numbers that they deserve."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import draw, snapshot
from photos import PLAIN

import evaluate
from formats import model_files
from formats.translator import Translator
from pictures import images
from quality import features, metrics

INPUTS = [draw(i, 40, 56) for i in range(3)]
RED = np.array([[0.5, 0.1, 0.0], [0.0, 0.4, -0.2], [0.2, 0.0, 0.6], [10.0, 40.0, 60.0]])
RECOLOURED = [metrics.change_colour(picture, RED) for picture in INPUTS]
FLIPPED = [picture[::-1] for picture in INPUTS]
ROUNDING = 1 / 255
DAMAGED = PLAIN["JPEG"][:-2] + bytes(40) + PLAIN["JPEG"][-2:]


def brighter(pictures: list[np.ndarray], by: int) -> list[np.ndarray]:
    return [np.uint8(picture // 2 + by) for picture in pictures]


@pytest.fixture
def l1_only(monkeypatch):
    """PSNR and SSIM take TensorFlow some time, and are not what most tests are about."""
    for name in ("psnr", "ssim"):
        monkeypatch.setattr(metrics, name, lambda a, b: 1.0)


@pytest.fixture
def score(call, tmp_path, l1_only):
    """`score(input=…, fake=…, truth=…)` writes lists of pictures into folders of these names and returns the one result."""

    def score(**folders: list[np.ndarray]) -> dict:
        for name, pictures in folders.items():
            write(tmp_path / name, pictures)
        outcome = call(evaluate.main, *flags(tmp_path), "--json", tmp_path / "result.json")
        assert (outcome.status, outcome.err) == (0, "")
        (result,) = json.loads((tmp_path / "result.json").read_text())
        assert all(f"{100 * found['l1']:.2f}" in outcome.out for found in result["to_truth"].values())
        return {"pictures": result["pictures"], **{name: found["l1"] for name, found in result["to_truth"].items()}}

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
    assert low <= score(input=INPUTS, fake=INPUTS, truth=truth)["best linear colour change"] <= high


def test_pictures_belong_together_by_name_and_take_the_translations_size(score, tmp_path):
    write(tmp_path / "truth", [np.full((80, 112, 3), value, np.uint8) for value in (0, 100, 200, 250)])
    for file in (tmp_path / "truth" / "sub").iterdir():
        file.rename(file.with_suffix(".BMP"))  # Pillow goes by the content
    result = score(input=[picture[::2, ::2] for picture in INPUTS], fake=[np.full((40, 56, 3), v, np.uint8) for v in (0, 100, 200)])
    assert (result["pictures"], result["translated"]) == (3, 0)  # the fourth truth has no translation


def test_transparent_pictures_are_measured_as_networks_see_them(tmp_path):
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:6, 2:6] = 255
    images.write(tmp_path / "a.png", np.where(alpha[..., np.newaxis] > 0, np.uint8([60, 20, 10]), np.uint8([0, 255, 0])), alpha)
    assert (evaluate.Folder(tmp_path)["a"] == (60, 20, 10)).all()


def test_each_direction_is_a_result_and_three_rows_of_the_sheet(call, tmp_path, l1_only):
    for name, pictures in {"x": INPUTS, "y": FLIPPED}.items():
        write(tmp_path / name, pictures)
    x, y = tmp_path / "x", tmp_path / "y"
    results, sheet = tmp_path / "new" / "results.json", tmp_path / "new" / "sheet.png"
    outcome = call(evaluate.main, "--input", x, y, "--fake", y, y, "--truth", y, x, "--json", results, "--sheet", sheet)
    first, second = (result["to_truth"] for result in json.loads(results.read_text()))
    assert (first["translated"]["l1"], second["untranslated"]) == (0, second["translated"])
    assert second["translated"]["l1"] == pytest.approx(first["untranslated"]["l1"]) and second["translated"]["l1"] > 0.1
    assert [part.splitlines()[0] for part in outcome.out.split("\n\n")] == [f"{y}: 3 pictures"] * 2
    assert images.read(sheet).shape[0] > 6 * 100


def test_the_distance_from_the_truth_is_that_of_three_kinds(call, tmp_path):
    """And what is infinite, for equal pictures, is null in JSON, which has no such number."""
    for name, pictures in {"fake": brighter(INPUTS, 30), "truth": brighter(INPUTS, 10), "same": brighter(INPUTS, 30)}.items():
        write(tmp_path / name, pictures)
    fake, json_file = tmp_path / "fake", tmp_path / "results.json"
    outcome = call(evaluate.main, "--fake", fake, fake, "--truth", tmp_path / "truth", tmp_path / "same", "--json", json_file)
    off, same = (result["to_truth"]["translated"] for result in json.loads(json_file.read_text()))
    assert (off["l1"], off["psnr"]) == pytest.approx((20 / 255, 10 * np.log10(255**2 / 20**2)), abs=1e-4)
    assert 0.5 < off["ssim"] < 0.999
    assert same == {"l1": 0, "psnr": None, "ssim": pytest.approx(1)}
    assert "inf" in outcome.out and "untranslated" not in outcome.out


# --- beside real pictures


def test_fid_and_kid_are_those_of_the_features(call, tmp_path, features_file):
    network = features.load(features_file)
    sets = {"real": FLIPPED + RECOLOURED, "fake": brighter(INPUTS, 40), "input": INPUTS}
    for name, pictures in sets.items():
        write(tmp_path / name, pictures)
    argv = [x for name in sets for x in (f"--{name}", tmp_path / name)]
    for more, first in (([], None), (["--size", 16], 16)):
        scaled = {n: network([images.resize(p, first, first) if first else p for p in pictures]) for n, pictures in sets.items()}
        outcome = call(evaluate.main, *argv, *more, "--features", features_file, "--json", tmp_path / "out.json", "--overwrite")
        found = json.loads((tmp_path / "out.json").read_text())[0]["to_real"]
        for name, of in (("translated", "fake"), ("untranslated", "input")):
            kid, error = metrics.kid(scaled["real"], scaled[of])
            expected = {"kid": kid, "kid_standard_error": error, "fid": metrics.fid(scaled["real"], scaled[of])}
            assert found[name] == pytest.approx(expected, rel=1e-4)
            assert f"{1000 * kid:.2f} ± {1000 * error:.2f}" in outcome.out
        assert (found["real_pictures"], found["dimensions"], found["features"]) == (6, 12, str(features_file))
        assert "FID says little: 3 pictures, 12 features" in outcome.out and f"{found['fid_of_real_halves']:.2f}" in outcome.out


def test_enough_pictures_need_no_warning(call, tmp_path, features_file):
    write(tmp_path / "many", [draw(i, 12, 12) for i in range(13)])
    outcome = call(evaluate.main, "--fake", tmp_path / "many", "--real", tmp_path / "many", "--features", features_file)
    assert (outcome.status, "13 real pictures" in outcome.out, "little" in outcome.out) == (0, True, False)


def test_without_features_the_rest_is_measured(call, tmp_path, monkeypatch, l1_only):
    """And nothing is fetched."""
    monkeypatch.setattr(features, "inception", lambda: pytest.fail("fetched"))
    write(tmp_path / "fake", FLIPPED)
    common = ["--fake", tmp_path / "fake", "--truth", tmp_path / "fake", "--features", "none", "--json", tmp_path / "out.json"]
    for more, said in (([], ""), (["--real", tmp_path / "nowhere", "--overwrite"], "neither FID nor KID is measured")):
        outcome = call(evaluate.main, *common, *more)
        assert outcome.status == 0 and said in outcome.err and outcome.err.count("\n") == bool(said)
        (found,) = json.loads((tmp_path / "out.json").read_text())
        assert found["to_truth"]["translated"]["l1"] == 0 and "to_real" not in found
    nothing = ["--fake", tmp_path / "fake", "--real", tmp_path / "fake", "--features", "none"]
    call(evaluate.main, *nothing).assert_refused("--features none: without FID and KID nothing is left to measure; give --truth or --back")


# --- which pictures belong together


@pytest.mark.parametrize(
    ("fake", "truth", "pairs"),
    [
        (["1_A", "2_A"], ["1_B", "2_B"], {"1_A": "1_B", "2_A": "2_B"}),
        (["x/1_a"], ["x/1_B", "1_B"], {"x/1_a": "x/1_B"}),
        (["1", "2_A"], ["1_B", "2"], {"1": "1_B", "2_A": "2"}),
        (["1_fake_B"], ["1_real_B"], {"1_fake_B": "1_real_B"}),
        (["1_A", "1"], ["1_A", "1", "1_B"], {"1_A": "1_A", "1": "1"}),
        (["1_A"], ["1_B", "1_real_B"], "truth: has no picture 1_A, which fake has (1 missing)"),
        (["1_A", "1_B"], ["1"], "truth: has no picture 1_A, which fake has (2 missing)"),
        (["1_AB"], ["1"], "truth: has no picture 1_AB"),
        (["A"], ["B"], "truth: has no picture A"),
    ],
)
def test_an_ending_that_tells_the_domain_keeps_nobody_apart(call, tmp_path, l1_only, monkeypatch, fake, truth, pairs):
    """Names that are equal come first, and where more than one could be meant, none is."""
    shades = {name: 10 * i for i, name in enumerate(truth)}
    for name, shade in shades.items():
        images.write(tmp_path / "truth" / f"{name}.png", np.full((8, 8, 3), shade, np.uint8))
    for name in fake:
        images.write(tmp_path / "fake" / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    outcome = call(evaluate.main, "--fake", "fake", "--truth", "truth", "--input", "truth", "--json", "out.json")
    if isinstance(pairs, str):
        outcome.assert_refused(pairs)
    else:
        (found,) = json.loads((tmp_path / "out.json").read_text())
        assert found["pictures"] == len(fake) and found["to_truth"]["untranslated"]["l1"] == 0  # the inputs are the truths here
        mean = sum(shades[name] for name in pairs.values()) / len(pairs) / 255
        assert found["to_truth"]["translated"]["l1"] == pytest.approx(mean)


def test_names_may_differ_in_how_accents_are_written_and_without_pairs_in_suffix_only(call, tmp_path, l1_only, features_file):
    """macOS writes an é as two characters."""
    images.write(tmp_path / "fake" / "caf\u00e9.png", INPUTS[0])
    images.write(tmp_path / "truth" / "cafe\u0301.png", INPUTS[0])
    outcome = call(evaluate.main, "--fake", tmp_path / "fake", "--truth", tmp_path / "truth")
    assert outcome.status == 0 and "1 pictures" in outcome.out
    for name in ("a.png", "a.jpg", "b.png"):
        images.write(tmp_path / "fake" / name, INPUTS[0])
    given = ["--fake", tmp_path / "fake", "--real", tmp_path / "fake", "--features", features_file]
    assert "4 pictures" in call(evaluate.main, *given).out
    call(evaluate.main, *given, "--truth", tmp_path / "truth").assert_refused("a.png: a.jpg has the same name; remove one of them")


def test_damage_is_named_once(call, tmp_path, l1_only):
    """Each picture is read three times."""
    for folder in ("fake", "truth", "input"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "sub" / "0.jpg").write_bytes(DAMAGED if folder != "input" else PLAIN["JPEG"])
    outcome = call(evaluate.main, *flags(tmp_path))
    lines = [line.split(": ")[:2] for line in outcome.err.splitlines()]
    assert outcome.status == 0 and lines == [["damaged, but measured", str(tmp_path / f"{name}/sub/0.jpg")] for name in ("fake", "truth")]


# --- with models


@pytest.fixture
def models(monkeypatch) -> list[str]:
    """Two that take 32-pixel pictures: one darkens, the other makes them brighter than they were."""

    def darken(pictures):
        assert pictures.shape[0] == 1 and min(pictures.shape[1:3]) in (32, 48)  # at once
        return pictures // 2

    changes = {"darken.pb": darken, "brighten.pb": lambda x: np.uint8(np.minimum(x * 3.0, 255))}
    metadata = {"image_size": 32, "multiple": 4, "smallest": 8}
    monkeypatch.setattr(model_files, "load", lambda file, trust=False: Translator(file, metadata, "CPU", changes[str(file)]))
    return list(changes)


def test_models_are_measured_on_the_way_there_and_back(call, tmp_path, models, features_file, l1_only):
    write(tmp_path / "input", INPUTS)
    write(tmp_path / "dark", [images.resize_short_side(picture, 32) // 2 for picture in INPUTS])
    output, sheet, dark = tmp_path / "out.json", tmp_path / "sheet.png", tmp_path / "dark"
    argv = ["--model", models[0], "--back", models[1], "--input", tmp_path / "input", "--json", output]
    outcome = call(evaluate.main, *argv, "--real", dark, "--truth", dark, "--features", features_file, "--sheet", sheet)
    assert (outcome.status, outcome.err) == (0, "")
    (found,) = json.loads(output.read_text())
    seen = [images.resize_short_side(picture, 32) for picture in INPUTS]
    cycle = np.mean([np.abs(np.minimum(picture // 2 * 3.0, 255) - picture).mean() for picture in seen]) / 255
    identity = np.mean([np.abs(np.minimum(picture * 3.0, 255) - picture).mean() for picture in seen]) / 255
    assert found["round_trip"] == pytest.approx({"cycle_error": cycle, "identity_error": identity, "unchanged": 0}, abs=1e-6)
    assert found["to_truth"]["translated"]["l1"] == 0 and found["to_truth"]["untranslated"]["l1"] > 0.1
    assert found["to_real"]["translated"]["fid"] == pytest.approx(0, abs=1e-3) and found["to_real"]["untranslated"]["fid"] > 100
    assert f"{100 * identity:.2f} % identity error" in outcome.out and "0.0 % came out as they went in" in outcome.out
    assert images.read(sheet).shape[0] > 4 * 160

    larger = [x if x != output else tmp_path / "larger.json" for x in argv]
    assert call(evaluate.main, *larger, "--image_size", 48).status == 0
    seen = [images.resize_short_side(picture, 48) for picture in INPUTS]
    identity = np.mean([np.abs(np.minimum(picture * 3.0, 255) - picture).mean() for picture in seen]) / 255
    assert json.loads((tmp_path / "larger.json").read_text())[0]["round_trip"]["identity_error"] == pytest.approx(identity, abs=1e-6)


def test_a_model_of_one_size_translates_pictures_of_every_shape(call, tmp_path, monkeypatch, l1_only):
    """In parts, of which none is longer than it takes."""
    shapes = []
    model = Translator(
        "m.pb", {"image_size": 32, "multiple": 1, "smallest": 32}, "CPU", lambda x: shapes.append(x.shape[1:3]) or x // 2, fixed_size=32
    )
    monkeypatch.setattr(model_files, "load", lambda file, trust=False: model)
    write(tmp_path / "input", INPUTS)
    write(tmp_path / "dark", [images.resize_short_side(picture, 32) // 2 for picture in INPUTS])
    argv = ["--model", "m.pb", "--input", tmp_path / "input", "--truth", tmp_path / "dark", "--json", tmp_path / "out.json"]
    assert call(evaluate.main, *argv).status == 0
    assert json.loads((tmp_path / "out.json").read_text())[0]["to_truth"]["translated"]["l1"] == 0
    assert set(shapes) == {(32, 32)}


@pytest.fixture
def folders(tmp_path) -> Path:
    """A folder with input, fake and truth of two pictures each, and some that are wrong."""
    for name in ("input", "fake", "truth", "two suffixes", "unreadable"):
        write(tmp_path / name, INPUTS[:2])
    write(tmp_path / "too few", INPUTS[:1])
    write(tmp_path / "two suffixes", INPUTS[:1], ".jpg")
    (tmp_path / "unreadable" / "sub" / "1.png").write_bytes(b"no picture")
    write(tmp_path / "with pipe", INPUTS[:1])
    for pipe in ("with pipe/sub/1.png", "pipe"):
        os.mkfifo(tmp_path / pipe)
    (tmp_path / "link").symlink_to("truth")
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
        (["--fake", "fake", "truth"], ["each direction", "--fake 2, --input 1, --truth 1"]),
        (["--model", "nowhere"], ["either --fake", "or --model and --input"]),
        (["--back", "nowhere"], ["--back: is of use with --model"]),
        (["--image_size", "64"], ["--image_size: is of use with --model"]),
        (["--features", "nowhere"], ["--features: is of use with --real"]),
        (["--size", "64"], ["--size: is of use with --real"]),
        (["--real", "truth"], ["fake: 2 pictures; KID and FID need 3"]),
        (["--sheet", "new/sheet.gif"], ["--sheet", "sheet.gif", ".png .jpg"]),
        (["--sheet", "old.png"], ["old.png", "exists", "--overwrite"]),
        (["--json", "old.json"], ["old.json", "exists", "--overwrite"]),
        (["--json", "empty", "--overwrite"], ["--json empty: is a folder"]),
        (
            ["--sheet", "fake/sub/0.png", "--overwrite"],
            ["--sheet fake/sub/0.png: would be one of the pictures in fake; name another place"],
        ),
        (["--sheet", "link/sheet.jpg"], ["--sheet link/sheet.jpg: would be one of the pictures in truth"]),
        (["--json", "input/sub/1.png", "--overwrite"], ["--json input/sub/1.png: would be one of the pictures in input"]),
        (["--json", "pipe", "--overwrite"], ["--json pipe: is a pipe or a device; name a file"]),
        (["--fake", "with pipe"], ["with pipe/sub/1.png: is a pipe or a device"]),
        (["--tru", "truth"], ["--tru"]),
        (["--json"], ["--json: expected one argument"]),
    ],
)
def test_wrong_input_is_refused_and_leaves_nothing(call, folders, l1_only, monkeypatch, wrong, words):
    monkeypatch.chdir(folders)
    before, entries = snapshot(folders), set(folders.rglob("*"))
    outputs = [] if wrong[0] in ("--json", "--sheet") else ["--json", "new/result.json", "--sheet", "new/sheet.png"]
    outcome = call(evaluate.main, *flags(Path()), *outputs, *wrong)
    outcome.assert_refused(*words)
    assert outcome.out == "" and snapshot(folders) == before and set(folders.rglob("*")) == entries


@pytest.mark.parametrize("flags", [["--model", "m.onnx", "--input", "fake"], ["--model", "x", "--back", "m.onnx", "--input", "fake"]])
def test_no_model_is_replaced_by_what_is_measured_of_it(call, folders, monkeypatch, flags):
    monkeypatch.chdir(folders)
    Path("m.onnx").write_text("a model")
    outcome = call(evaluate.main, *flags, "--truth", "truth", "--json", "m.onnx", "--overwrite")
    outcome.assert_refused("--json m.onnx: the same file as", flags[-4])
    assert Path("m.onnx").read_text() == "a model"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--truth t --input i", "--fake"),
        ("--fake f --input i", "--real, --truth or --back"),
        ("--model m --back b", "--model: is of use with --input"),
        ("--model m --input i", "nothing to measure"),
    ],
)
def test_what_is_needed_is_asked_for(call, given, words):
    call(evaluate.main, *given.split()).assert_refused(words)


def test_all_numbers_are_printed_with_their_units():
    result = {
        "fake": "fakes",
        "pictures": 12,
        "to_real": {
            "translated": {"kid": 0.01234, "kid_standard_error": 0.00056, "fid": 7.891},
            "untranslated": {"kid": 0.2, "kid_standard_error": 0.03, "fid": 40},
            "real_pictures": 20,
            "features": "network",
            "dimensions": 12,
            "fid_of_real_halves": 3.25,
        },
        "to_truth": {"translated": {"l1": 0.1234, "psnr": 21.5, "ssim": 0.6784}},
        "round_trip": {"cycle_error": 0.0234, "identity_error": 0.0345, "unchanged": 0.125},
    }
    assert [" ".join(line.split()) for line in evaluate.describe(result).splitlines()] == [
        "fakes: 12 pictures",
        "to the real pictures KID ×1000 FID",
        "translated 12.34 ± 0.56 7.89",
        "untranslated 200.00 ± 30.00 40.00",
        "20 real pictures; features: network",
        "FID says little: 12 pictures, 12 features, so it is far too large; "
        "half of the real ones against the other half have 3.25. Go by KID",
        "to the truth L1 % PSNR dB SSIM",
        "translated 12.34 21.50 0.678",
        "there and back: 2.34 % cycle error, 3.45 % identity error (L1); 12.5 % came out as they went in",
    ]
    result["to_real"]["dimensions"] = 11
    assert "little" not in evaluate.describe(result)


def test_few_real_pictures_are_refused_as_well(call, folders):
    write(folders / "three", INPUTS)
    for name in ("three", "fake"):
        other = "fake" if name == "three" else "three"
        words = f"{folders / 'fake'}: 2 pictures; KID and FID need 3"
        call(evaluate.main, "--fake", folders / name, "--real", folders / other).assert_refused(words)


def test_overwrite_replaces_outputs(call, folders, l1_only):
    call(evaluate.main, *flags(folders), "--json", folders / "old.json", "--sheet", folders / "old.png", "--overwrite")
    assert json.loads((folders / "old.json").read_text())[0]["to_truth"]["translated"]["l1"] == 0
    assert images.read(folders / "old.png").shape != INPUTS[0].shape
