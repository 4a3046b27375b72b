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
KINDS = {name: getattr(field.metadata["type"], "kind", field.metadata["type"]) for name, field in FIELDS.items()}
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


def test_epochs_at_either_learning_rate_suffice():
    assert Config(n_epochs=0).n_epochs_decay == Config(n_epochs_decay=0).n_epochs == 100
    with pytest.raises(InputError, match="nothing to train"):
        Config(n_epochs=0, n_epochs_decay=0)


def test_the_architecture_is_what_shapes_weights():
    assert config.ARCHITECTURE == ("norm", "upsample", "n_res_blocks", "ngf", "ndf")


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
    for name, field in FIELDS.items():
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


FLAGS = ["--load_model", "--checkpoints_dir", "--run_name", "--nouse_lsgan", *(f"--{name}" for name in FIELDS)]


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
        (("--norm", "none"), ["--norm", "'none'", "instance", "batch"]),
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
        ({"format_version": 2}, "format 2, generator resnet: this program reads format 1, resnet"),
        ({"generator": "unet"}, "format 1, generator unet: this program reads format 1, resnet"),
        ({"ngf": "64", "norm": "none"}, "damaged (norm 'none', ngf '64')"),
        ({"ngf": None}, "damaged (ngf None)"),
        ({"ngf": True}, "damaged (ngf True)"),
        ({"image_size": 130}, "damaged (image_size 130)"),
        ({"use_lsgan": 1}, "damaged (use_lsgan 1)"),
        ({"learning_rate": float("nan")}, "damaged (learning_rate nan)"),
        ({"learning_rate": 10**400}, "damaged (learning_rate 1000"),
        ({"image_size": 256.0}, "damaged (image_size 256.0)"),
        ({"max_steps": 0}, "damaged (max_steps 0)"),
        ({"max_steps": "9"}, "damaged (max_steps '9')"),
        ({"X": None}, "damaged (X None)"),
        ({"X_test": 5}, "damaged (X_test 5)"),
        ({"X": 5}, "damaged (X 5)"),
        ({"wings": 2}, "'wings'"),
        ({"load_size": 100}, "--load_size 100"),
    ],
)
def test_a_config_that_was_not_written_by_this_program_is_refused(tmp_path, change, words):
    Config().save(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError) as error:
        Config.load(tmp_path)
    assert words in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"text"', b"7", b"{}", b"\xff\xfe", b'{"format_version": 1}'])
def test_what_is_no_config_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=f"^{tmp_path / 'config.json'}: "):
        Config.load(tmp_path)


def test_a_run_needs_a_folder_and_a_config(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}: no config.json"):
        Config.load(tmp_path)
    with pytest.raises(InputError, match=f"{tmp_path / 'run'}: no such run folder"):
        Config.load(tmp_path / "run")


FREE = {"X": "x", "Y": "y", "real_label": 0.9, "lambda1": 5.0, "lambda2": 5.0, "lambda_identity": 0.25, "learning_rate": 1e-4, "beta1": 0.9}
FREE |= {"n_epochs": 5, "n_epochs_decay": 6, "max_steps": 9, "log_every": 1, "image_every": 2, "save_every": 3, "keep_every": 7}
FREE |= {"skip_bad_records": True, "xla": True, "X_test": "x", "Y_test": "y", "features": "none", "eval_every": 5}
FIXED = {"image_size": 128, "load_size": 300, "batch_size": 2, "use_lsgan": False, "norm": "batch", "upsample": "transpose", "ndf": 8}
FIXED |= {"n_res_blocks": 6, "ngf": 8, "pool_size": 0, "ema": 0.5, "seed": 1, "precision": "bfloat16", "shard_data": True, "init_from": "x"}


def test_every_setting_is_fixed_or_free():
    assert set(FREE) | set(FIXED) == set(FIELDS) and not set(FREE) & set(FIXED)


@pytest.mark.parametrize("name", FREE)
def test_a_run_that_continues_can_change(name):
    before = Config(X_test="a", Y_test="b")
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
