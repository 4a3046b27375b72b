"""Settings: defaults, checks at the flags, and what survives in config.json."""

import dataclasses
import json

import pytest
from conftest import snapshot

import train
from system.cli import InputError, Parser
from training import config
from training.config import Config

FIELDS = {field.name: field for field in dataclasses.fields(Config)}
TYPED = {name: field for name, field in FIELDS.items() if field.metadata["flag"]}
KINDS = {name: getattr(field.metadata["type"], "kind", field.metadata["type"]) for name, field in TYPED.items()}
NUMBERS = [name for name, kind in KINDS.items() if kind in (int, float)]


def parser() -> Parser:
    parser = Parser("")
    config.add_arguments(parser)
    return parser


def typed(*argv: str) -> dict:
    return vars(parser().parse_args(argv))


# --- defaults


def test_defaults_are_the_papers_but_for_what_was_found_better():
    expected = {"image_size": 256, "load_size": 286, "batch_size": 1, "use_lsgan": True, "norm": "instance", "n_res_blocks": 9}
    expected |= {"ngf": 64, "ndf": 64, "lambda1": 10, "lambda2": 10, "lambda_identity": 0.5, "learning_rate": 2e-4, "beta1": 0.5}
    expected |= {"pool_size": 50, "n_epochs": 100, "n_epochs_decay": 100, "real_label": 1, "ema": 0.999, "max_steps": None}
    expected |= {"X": "data/tfrecords/apple.tfrecords", "Y": "data/tfrecords/orange.tfrecords", "upsample": "resize"}
    assert {k: v for k, v in dataclasses.asdict(Config()).items() if k in expected} == expected


@pytest.mark.parametrize(
    "image_size, load_size, n_res_blocks", [(32, 36, 6), (64, 72, 6), (128, 143, 6), (132, 147, 9), (256, 286, 9), (512, 572, 9)]
)
def test_sizes_follow_from_the_image_size(image_size, load_size, n_res_blocks):
    settings = Config(image_size=image_size)
    assert (settings.load_size, settings.n_res_blocks) == (load_size, n_res_blocks)


def test_what_is_given_is_taken():
    settings = Config(image_size=256, load_size=256, n_res_blocks=0)
    assert (settings.load_size, settings.n_res_blocks) == (256, 0)


@pytest.mark.parametrize(
    ("image_size", "levels"), [(32, 5), (36, 2), (64, 6), (96, 5), (128, 7), (192, 6), (256, 8), (320, 6), (512, 8), (1024, 8)]
)
def test_a_unets_levels_follow_from_the_image_size(image_size, levels):
    settings = Config(generator="unet", image_size=image_size)
    assert (settings.unet_levels, settings.upsample, settings.n_res_blocks) == (levels, "transpose", None)
    assert image_size % 2**settings.unet_levels == 0
    assert Config(generator="unet", image_size=image_size, unet_levels=2, upsample="resize").unet_levels == 2
    assert Config(generator="unet", image_size=512, unet_levels=9).unet_levels == 9
    assert (Config(image_size=image_size).unet_levels, Config(image_size=image_size).upsample) == (None, "resize")


@pytest.mark.parametrize(("image_size", "most"), [(32, 3), (48, 4), (92, 4), (96, 5)])
def test_the_last_layer_of_a_discriminator_is_not_empty(image_size, most):
    """TensorFlow would say nothing."""
    assert Config(image_size=image_size, n_layers_D=most).n_layers_D == most
    assert (Config().n_layers_D, Config(discriminator="pixel").n_layers_D) == (3, 2)
    assert Config(image_size=image_size, discriminator="pixel", n_layers_D=5).n_layers_D == 5  # whatever the size
    if most < 5:
        with pytest.raises(
            InputError, match=f"^--n_layers_D {most + 1}: needs pictures of {3 << most + 1} pixels .* {image_size}; use fewer"
        ):
            Config(image_size=image_size, n_layers_D=most + 1)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_batch_norm_of_batches_of_one_is_of_the_picture(norm):
    assert Config(norm=norm).normalization == ("picture" if norm == "batch" else norm)
    assert Config(norm=norm, batch_size=2).normalization == norm
    assert Config(norm=norm, batch_of_one="averages").normalization == norm


@pytest.mark.parametrize(
    ("settings", "typed", "words"),
    [
        ({"generator": "unet"}, {"n_res_blocks": 6}, "--n_res_blocks 6: is for --generator resnet, and this is unet; leave it out"),
        ({}, {"unet_levels": 4}, "--unet_levels 4: is for --generator unet, and this is resnet; leave it out"),
    ],
)
def test_flags_of_a_network_that_was_not_chosen_are_refused(settings, typed, words):
    """With the value that was typed, which a run that continues does not take."""
    for config_ in (Config(**settings), Config(**settings, **typed)):
        with pytest.raises(InputError, match=f"^{words}$"):
            config_.check_typed({"ngf": 8, **typed})
    Config(**settings).check_typed({"ngf": 8, **settings})


def test_epochs_at_either_learning_rate_suffice():
    assert Config(n_epochs=0).n_epochs_decay == Config(n_epochs_decay=0).n_epochs == 100
    with pytest.raises(InputError, match="nothing to train"):
        Config(n_epochs=0, n_epochs_decay=0)


def test_the_architecture_is_what_shapes_weights():
    expected = {"model", "generator", "norm", "affine", "upsample", "n_res_blocks", "unet_levels", "ngf"}
    assert set(config.ARCHITECTURE) == expected | {"discriminator", "n_layers_D", "ndf"}


def test_the_chapters_recipe_is_the_chapters():
    changed = Config().differences(Config(**config.RECIPES["chapter"]))
    assert changed == {"real_label": [1, 0.9], "lambda_identity": [0.5, 0], "upsample": ["resize", "transpose"], "ema": [0.999, 0]}


@pytest.mark.parametrize(
    "given, missing", [({}, "--X_test and --Y_test"), ({"X_test": "x"}, "give --Y_test"), ({"Y_test": "y"}, "give --X_test")]
)
def test_to_measure_takes_test_pictures(given, missing):
    with pytest.raises(InputError, match=f"--eval_every 5: needs test pictures; .*{missing}"):
        Config(eval_every=5, **given)


# --- flags


@pytest.mark.parametrize(
    "argv, settings",
    [
        ([], {}),
        (["--ngf", "8", "--lambda1", "0.5"], {"ngf": 8, "lambda1": 0.5}),
        (["--nouse_lsgan"], {"use_lsgan": False}),
        (["--use_lsgan"], {"use_lsgan": True}),
        (["--norm=batch", "--upsample", "resize"], {"norm": "batch", "upsample": "resize"}),
    ],
)
def test_only_typed_flags_are_settings(argv, settings):
    assert typed(*argv) == settings


def test_help_names_every_flag_and_its_default(capsys):
    with pytest.raises(SystemExit):
        typed("--help")
    out = capsys.readouterr().out
    for name, field in TYPED.items():
        assert f"--{name}" in out
        assert field.default is None or f"(default: {field.default})" in out.replace("\n", " ").replace("  ", "")


@pytest.fixture
def refuse(call, tmp_path, monkeypatch):
    """`refuse((flag, value, …), word, …)`: train.py refuses these flags in one line with these words, and makes nothing."""
    monkeypatch.chdir(tmp_path)

    def refuse(argv: tuple, *words: str) -> None:
        call(train.main, *argv).assert_refused(*words)
        assert list(tmp_path.iterdir()) == []

    return refuse


FLAGS = ["--load_model", "--checkpoints_dir", "--run_name", "--nouse_lsgan", *(f"--{name}" for name in TYPED)]


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if len(flag) > 3])
def test_no_flag_is_taken_abbreviated(refuse, flag):
    for end in range(4, len(flag)):
        if flag[:end] not in FLAGS:
            refuse((flag[:end], "1"), flag[:end])


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "-inf", "", "many", "1,5"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_not_negative_not_infinite_and_a_number(refuse, name, value):
    refuse((f"--{name}={value}",), f"--{name}: ", value)


@pytest.mark.parametrize(
    "argv, words",
    [
        (("--norm", "layer"), ["--norm", "'layer'", "instance", "batch", "none"]),
        (("--generator", "vae"), ["--generator", "vae", "resnet", "unet"]),
        (("--discriminator", "patches"), ["--discriminator", "patches", "patch", "pixel"]),
        (("--n_layers_D", "6"), ["--n_layers_D", "6", "from 1 to 5"]),
        (("--n_layers_D", "4", "--image_size", "32"), ["--n_layers_D 4", "48 pixels", "--image_size is 32", "use fewer"]),
        (("--generator", "unet", "--unet_levels", "1"), ["--unet_levels", "1", "at least 2"]),
        (("--generator", "unet", "--unet_levels", "7", "--image_size", "192"), ["--unet_levels 7", "multiples of 128", "192", "at most 6"]),
        (("--unet_levels", "7"), ["--unet_levels 7", "--generator unet", "leave it out"]),
        (("--generator", "unet", "--n_res_blocks", "0"), ["--n_res_blocks 0", "--generator resnet", "leave it out"]),
        (("--upsample", "bilinear"), ["--upsample", "bilinear", "transpose", "resize"]),
        (("--image_size", "30"), ["--image_size", "30", "at least 32"]),
        (("--image_size", "130"), ["--image_size", "130", "use 128 or 132"]),
        (("--image_size", "64.0"), ["--image_size", "64.0"]),
        (("--load_size", "200"), ["--load_size 200", "--image_size 256"]),
        (("--n_epochs", "0", "--n_epochs_decay", "0"), ["--n_epochs 0", "--n_epochs_decay 0"]),
        (("--batch_size", "0"), ["--batch_size", "at least 1"]),
        (("--max_steps", "0"), ["--max_steps", "at least 1"]),
        (("--beta1", "1"), ["--beta1", "from 0 to 0.9999"]),
        (("--ema", "1"), ["--ema", "from 0 to 0.999999"]),
        (("--real_label", "2.1"), ["--real_label", "from 0 to 2"]),
        (("--seed", str(2**31)), ["--seed", "from 0 to 2147483647"]),
        (("--use_lsgan", "False"), ["False"]),
        (("--use_lsgan=False",), ["--use_lsgan", "False"]),
        (("--skip",), ["--skip"]),
    ],
)
def test_wrong_values_are_refused_with_a_remedy(refuse, argv, words):
    refuse(argv, *words)


# --- config.json


OTHER = {"X": "a b.tfrecords", "image_size": 64, "use_lsgan": False, "norm": "batch", "learning_rate": 1e-5, "max_steps": 7, "ema": 0.5}
OTHER |= {"lambda1": 5, "X_test": "x"}  # 5 for 5.0, as JSON may have it


@pytest.mark.parametrize("settings", [{}, OTHER])
def test_a_run_keeps_its_settings(tmp_path, settings):
    Config(**settings).save(tmp_path)
    assert Config.load(tmp_path) == Config(**settings)
    assert list(snapshot(tmp_path)) == ["config.json"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"format_version": 2}, "format_version 2; this program reads 1: take the version that wrote it"),
        ({"generator": "transformer"}, 'generator "transformer" is unknown: use "resnet" or "unet"'),
        ({"generator": [None]}, 'generator [null] is unknown: use "resnet" or "unet"'),
        ({"generator": "unet", "unet_levels": 9}, "--unet_levels 9: the sides of its pictures are multiples of 512, and --image_size 256"),
        ({"batch_of_one": "none"}, 'batch_of_one "none" is unknown: use "picture" or "averages"'),
        (
            {"ngf": "64", "norm": "no"},
            'norm "no" is unknown: use "instance" or "batch" or "none"; ngf "64" is no whole number: put one there',
        ),
        ({"ngf": None}, "ngf null is no whole number: put one there"),
        ({"ngf": True}, "ngf true is no whole number: put one there"),
        ({"image_size": 130}, "image_size 130 is not a multiple of 4: use 128 or 132"),
        ({"use_lsgan": 1}, "use_lsgan 1 is neither true nor false: put one there"),
        ({"learning_rate": float("nan")}, "learning_rate NaN is out of range: use at least 0"),
        ({"learning_rate": "fast"}, 'learning_rate "fast" is no number: put one there'),
        ({"learning_rate": 10**400}, f"learning_rate 1{'0' * 59}… is not a finite number"),
        ({"image_size": 256.0}, "image_size 256.0 is no whole number: put one there"),
        ({"max_steps": 0}, "max_steps 0 is out of range: use at least 1"),
        ({"max_steps": "9"}, 'max_steps "9" is no whole number: put one there'),
        ({"max_steps": {"a": []}}, 'max_steps {"a": []} is no whole number: put one there'),
        ({"X": None}, "X null is no name: put one there"),
        ({"X_test": 5}, "X_test 5 is no name: put one there"),
        ({"X": ""}, 'X "" is no name: put one there'),
        ({"X": "a\0b"}, 'X "a\\u0000b" is no name: put one there'),
        ({"X": "\udcff"}, 'X "\udcff" is no name: put one there'),
        ({"wings": 2}, "wings 2 is no setting of this version: take it out"),
        ({"w" * 999: 2, **{f"w{i}": i for i in range(9)}}, f"{'w' * 60} 2 is no setting of this version: take it out; w0 0 is"),
        ({f"w{i}": i for i in range(11)}, "w8 8 is no setting of this version: take it out; and 2 more"),
        ({"load_size": 100}, "--load_size 100: smaller than --image_size 256; put that right in the file"),
    ],
)
def test_a_config_that_was_not_written_by_this_program_is_refused(tmp_path, change, words):
    """In words that name the setting, its value as it stands there, and what to put in its place."""
    Config().save(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError) as error:
        Config.load(tmp_path)
    assert f"{error.value} ".startswith(f"{file}: {words}" if len(change) < 11 else f"{file}: w0 0 is no") and words in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; bring a copy back"),
        (b" \n", "is empty; bring a copy back"),
        (b"{", "no valid JSON in line 1, column 2; mend it, or bring a copy back"),
        (b'{\n"ngf": 1,\n}', "no valid JSON in line "),
        (b"\0\0\0", "no valid JSON in line 1, column 1; "),
        (b"[]", "[] instead of names with values; bring a copy back"),
        (b"null", "null instead of names with values; "),
        (b'"text"', '"text" instead of names with values; '),
        (b"7", "7 instead of names with values; "),
        (b"NaN", "NaN instead of names with values; "),
        (b"{}", "format_version null; this program reads 1: "),
        (b'{"format_version": "1"}', 'format_version "1"; this program reads 1: '),
        (b"\xff\xfe", "no valid JSON; bring a copy back"),
        (b"[" * 100_000, "no valid JSON; bring a copy back"),
        (b'{"ngf": ' + b"9" * 5000 + b"}", "no valid JSON; bring a copy back"),
    ],
    ids=range(15),
)
def test_what_is_no_config_is_refused(tmp_path, content, words):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError) as error:
        Config.load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'config.json'}: {words}")


@pytest.mark.parametrize(("name", "now", "then"), [("decoder", "exact", "fast"), ("batch_of_one", "picture", "averages")])
def test_a_run_keeps_what_it_was_begun_with(tmp_path, name, now, then):
    """One from before there was a choice has no word of it, and what was done at that time."""
    assert getattr(Config(), name) == now and not hasattr(train.parse([]), name)
    Config().save(tmp_path)
    assert getattr(Config.load(tmp_path), name) == now
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings[name]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    before = Config.load(tmp_path)
    assert getattr(before, name) == then and getattr(before.changed({"n_epochs": 3})[0], name) == then


def test_a_run_from_before_there_were_other_networks_has_the_ones_of_that_time(tmp_path):
    Config(norm="batch", n_res_blocks=3).save(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    for name in ("model", "affine", "dropout", "unet_levels", "discriminator", "n_layers_D", "batch_of_one"):
        del settings[name]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert Config.load(tmp_path) == Config(norm="batch", n_res_blocks=3, batch_of_one="averages")
    assert Config.load(tmp_path).normalization == "batch"


def test_a_config_can_come_out_of_any_editor(tmp_path):
    Config(ngf=3).save(tmp_path)
    file = tmp_path / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert Config.load(tmp_path) == Config(ngf=3)


def test_a_config_that_is_a_folder_or_huge_is_not_read(tmp_path):
    file = tmp_path / "config.json"
    file.mkdir()
    with pytest.raises(InputError, match=f"^{file}: is a folder; bring the file back$"):
        Config.load(tmp_path)
    file.rmdir()
    with open(file, "wb") as huge:
        huge.truncate(3 << 30)
    with pytest.raises(InputError, match=f"^{file}: 3,221,225,472 bytes, so it is no file of this program; bring that back$"):
        Config.load(tmp_path)


def test_a_run_needs_a_folder_and_a_config(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}: no config.json"):
        Config.load(tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path / 'run'}: no such run folder"):
        Config.load(tmp_path / "run")


FREE = {"X": "x", "Y": "y", "real_label": 0.9, "lambda1": 5.0, "lambda2": 5.0, "lambda_identity": 0.25, "learning_rate": 1e-4, "beta1": 0.9}
FREE |= {"n_epochs": 5, "n_epochs_decay": 6, "max_steps": 9, "log_every": 1, "image_every": 2, "save_every": 3, "keep_every": 7}
FREE |= {"skip_bad_records": True, "xla": True, "X_test": "x", "Y_test": "y", "features": "none", "eval_every": 5}
FREE |= {"lambda_L1": 50.0, "lambda_GAN": 0.0, "X_paired": "x", "Y_paired": "y", "lambda_paired": 5.0}
FIXED = {"image_size": 128, "load_size": 300, "batch_size": 2, "use_lsgan": False, "norm": "batch", "upsample": "transpose", "ndf": 8}
FIXED |= {"n_res_blocks": 6, "ngf": 8, "pool_size": 0, "ema": 0.5, "seed": 1, "precision": "bfloat16", "shard_data": True, "init_from": "x"}
FIXED |= {
    "model": "pix2pix",
    "generator": "unet",
    "affine": False,
    "dropout": True,
    "unet_levels": 4,
    "discriminator": "pixel",
    "n_layers_D": 2,
}


def test_every_setting_is_fixed_or_free():
    assert set(FREE) | set(FIXED) == set(TYPED) and not set(FREE) & set(FIXED)


def test_pairs_cannot_come_later():
    assert Config().changed({"X_paired": "x", "Y_paired": "y"})[1] == ["--X_paired x (the run has None)", "--Y_paired y (the run has None)"]


@pytest.mark.parametrize("name", FREE)
def test_a_run_that_continues_can_change(name):
    before = Config(X_test="a", Y_test="b", X_paired="c", Y_paired="d")
    after, wrong = before.changed({name: FREE[name]})
    assert dataclasses.asdict(after) == {**dataclasses.asdict(before), name: FREE[name]}
    assert wrong == []
    assert before.differences(after) == {name: [getattr(before, name), FREE[name]]}


@pytest.mark.parametrize("name", FIXED)
def test_a_run_that_continues_cannot_change(name):
    after, wrong = Config().changed({name: FIXED[name]})
    assert wrong == [f"--{name} {FIXED[name]} (the run has {getattr(Config(), name)})"]
    assert after == Config()


def test_every_contradiction_is_listed_and_agreement_is_none():
    _, wrong = Config(ngf=32).changed({"ngf": 64, "norm": "instance", "seed": 4, "learning_rate": 1.0})
    assert wrong == ["--ngf 64 (the run has 32)", "--seed 4 (the run has 0)"]
    assert Config(ngf=32).changed({"ngf": 32, "load_size": 286}) == (Config(ngf=32), [])
