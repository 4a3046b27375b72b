"""Every command with every flag, given what people and shells can put there: one line and a clean disk, or the promised output.

The flags are those of the commands' own parsers, so that a new one is tried without anybody's doing. What would take long is stubbed:
training, freezing a model, drawing, telling how alike pictures are.
"""

import contextlib
import functools
import importlib
import itertools
import json
import math
import os
import shlex
import shutil
import tarfile
from argparse import Action, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest
from conftest import draw, write_records
from hypothesis import given, settings
from hypothesis import strategies as st

import export_graph
import generator
import inference
import reader
import sample_data
import train
from formats import model_files, pytorch
from pictures import images, shards
from pictures.records import record_headers
from quality import features, metrics
from system import cli, devices
from system.devices import native_precision
from training import checkpoints, run_folder
from training.config import Config

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "instance.tar.xz"
# Command lines that succeed in the prepared folder; all others are made from them.
VALID = {
    "build_data": [
        "--X_input_dir red --Y_input_dir 'blue fruit' --X_output_file new/x.tfrecords --Y_output_file new/y.tfrecords",
        "--X_input_dir red --Y_input_dir 'blue fruit' --X_output_file new/x.tfrecords --Y_output_file y --num_shards 2",
        "--paired --X_input_dir red --Y_input_dir 'blue fruit' --X_output_file new/x.tfrecords",
        "--AB_input_dir red --direction BtoA --num_shards 2 --max_size 8",
        "--Y_input_dir many --X_from blank --Y_output_file y",
        "--Y_input_dir red --X_from edges --X_output_dir new",
    ],
    "train": [
        "--X red.tfrecords --Y blue.tfrecords --checkpoints_dir new --run_name named",
        "--X red.tfrecords --Y blue.tfrecords",
        "--X 'two-*-of-*' --Y two@2",
        "--load_model tiny",
        "--X red.tfrecords --Y blue.tfrecords --init_from tiny",
        "--X red.tfrecords --Y blue.tfrecords --init_from checkpoints/tiny/model.ckpt-4 --image_size 64 --ngf 1",
        "--model pix2pix --X pairs/x --Y pairs/y --lambda_L1 10",
        "--X red.tfrecords --Y blue.tfrecords --X_paired pairs/x --Y_paired pairs/y --lambda_paired 5",
        "--X red.tfrecords --Y blue.tfrecords --recipe chapter --eval_every 5 --X_test many --Y_test red --features none",
    ],
    "export_graph": [
        "--checkpoint_dir [runs]/tiny --export_dir new",
        "--checkpoint_dir checkpoints/tiny/model.ckpt-4 --ema --XtoY_model ./link.pb",
        "--checkpoint_dir checkpoints/tiny --best --XtoY_model new/x.pb",
        "--checkpoint_dir checkpoints/tiny --format tflite --quantize int8 --pictures red",
    ],
    "convert_torch": [
        "--weights G.pth --output new/red2blue.pb",
        "--weights ./G.pth --output apple2orange.pb --source red --target blue --norm instance --precision bfloat16 --image_size 64",
    ],
    "inference": [
        "--model model.pb --input red/a.png --output new/out.png",
        "--model model.pb --input red --output new --image_size 16 --format jpg --quality 50 --keep_metadata",
        "--model model.pb --input red --output 'blue fruit' --shard 1/2 --resume",
        "--model model.pb --input 'red/*' --output new --cycle model.pb --gallery new.html --format webp --tile 64",
        "--model model.pb --input red/a.png --output new/out.tif --cycle model.pb --side_by_side --keep_size --max_megapixels 1",
    ],
    "evaluate": [
        "--fake red --truth 'blue fruit' --input red --sheet new/sheet.png --json new/results.json",
        "--fake red red --truth 'blue fruit' red --input red red",
        "--fake many --real many --features features --size 16 --json results.json",
        "--model model.pb --back link.pb --input red --truth red",
    ],
    "sample_data": ["--output_dir new --size 32 --n_train 1 --n_test 1"],
}

# Names: what stands in that folder, what does not yet, and what nobody would type on purpose.
NAMES = ["red", "twins", "taken", "-x", "red/a.png", "cut.png", "notes.txt", "notes.txt/x.png", "red.tfrecords", "cut.tfrecords", "pairs/y"]
NAMES += [
    "many",
    "features",
    "checkpoints",
    "checkpoints/tiny",
    "checkpoints/tiny/model.ckpt-6",
    "model.pb",
    "link.pb",
    "damaged.pb",
    "loop",
    "./nowhere.png",
]
NAMES += [
    "two@2",
    "two@3",
    "two-*",
    "*.tfrecords",
    "0/1",
    "2/2",
    "nowhere.png/x.png",
    "new",
    "new/x.jpg",
    "new/x.tfrecords",
    "new/x.tfrecords/y",
    "new/sheet.png",
    "new/apple2orange.pb/x.png",
]
NAMES += ["", ".", "-", "--", "--help", "-1", "a\nb.png", "a\x85b\u2028c.png", "果/ü [*]?%s{0}.png", "scheme://x.png"]
NAMES += ["\udcff.png", "a\0b.png", "x" * 251, "x" * 300, f"{'d' * 249}/" * 16 + "d" * 83 + "/x.png"]  # the last: all but too long
MORE_NAMES = ["blue fruit", "empty", "spoilt", "red/sub/b.png", "blue.tfrecords", "tiny", "model.pb/saved_model.pb", "loop/x.png", "./new"]
MORE_NAMES += ["new/", "new//x.png", "x.PNG", "pretrained", "apple2orange.pb", " ", "./.", "-x", "--overwrite", "=", "None", "~", "$HOME"]
MORE_NAMES += [
    "'",
    '"',
    "\\",
    "a b.png",
    "file:x",
    "a\r\n\tb",
    "\u202e",
    "\x1b[31m.png",
    "\ud800",
    "果" * 100 + ".png",
    "d/" * 100 + "x" * 251,
]
NUMBERS = [
    "-1",
    "0",
    "1",
    "8",
    "33",
    "0.5",
    " 8 ",
    "٣",
    "eight",
    "nan",
    "inf",
    "1e300",
    "1e999",
    "",
    "--",
    "9" * 5000,
    str(2**31),
    str(10**400),
]
MORE_NUMBERS = ["2", "32", "36", "64", "-0", "+8", "1_0", "1.", "1e-3", "0x10", "True", "-nan", "-inf", "-1e300", "1e-400", "8,5"]
MORE_NUMBERS += [str(2**31 - 1), str(2**63)]
STRAY = ["stray", "", "--", "-", "-x", "-h", "--help", "--help=1", "--=1", "--no_such_flag", "--no=1", "--overwrit", "\udcff", "--\udcff\n"]
STRAY += ["a\0b", "two\nlines", "@notes.txt", "x" * 5000]


@functools.cache
def module_of(command: str) -> ModuleType:
    return importlib.import_module(command)


@functools.cache
def parser_of(command: str) -> cli.Parser:
    with mock.patch.object(cli.Parser, "parse_args", autospec=True) as parse_args:
        module_of(command).parse([])
    return parse_args.call_args.args[0]


def flags_of(command: str) -> dict[str, Action]:
    """The flags of a command as its parser knows them."""
    return {flag: action for action in parser_of(command)._actions for flag in action.option_strings}


def test_all_commands_are_tried():
    assert sorted(VALID) == sorted(file.stem for file in ROOT.glob("*.py") if "cli.run(main" in file.read_text())


# --- command lines


def groups(line: str) -> list[list[str]]:
    """A command line as its flags, each with its values."""
    found = []
    for word in shlex.split(line):
        if word.startswith("--"):
            found.append([])
        found[-1].append(word)
    return found


def takes_number(action: Action) -> bool:
    return isinstance(action.type, cli.Number)


def pool(action: Action) -> list[str]:
    """Right and wrong values for a flag that takes one."""
    return [*(action.choices or []), *(NUMBERS if takes_number(action) else NAMES)]


name_parts = st.text(st.characters(), max_size=6).map(lambda text: text.replace("/", "_")).filter(lambda text: text != "..")
invented = st.lists(name_parts, min_size=1, max_size=3).map("/".join).filter(lambda name: not name.startswith("/"))  # all in the folder
odd_values = invented | st.sampled_from(MORE_NAMES) | st.sampled_from(MORE_NUMBERS) | st.sampled_from(NAMES) | st.sampled_from(NUMBERS)


@functools.cache
def values(command: str, flag: str) -> st.SearchStrategy[list[str]]:
    """Values for a flag, as many as it takes."""
    action = flags_of(command)[flag]
    return st.lists(st.sampled_from(pool(action)) | odd_values, min_size=1, max_size=3 if action.nargs == "+" else 1)


@st.composite
def command_lines(draw, command: str) -> list[str]:
    """A valid command line in which some flags get another value, two, none, or are left out, and a stray word may stand somewhere."""
    flags = flags_of(command)
    line = groups(draw(st.sampled_from(VALID[command])))
    for flag in draw(st.lists(st.sampled_from([*flags]), max_size=3)):
        change = draw(st.sampled_from(["replace", "replace", "join", "repeat", "no value", "leave out"]))
        given = draw(values(command, flag)) if flags[flag].nargs != 0 or change == "join" else []
        if change != "repeat":
            line = [group for group in line if group[0] != flag]
        if change == "join":
            line.append([f"{flag}={given[0]}", *given[1:]])
        elif change != "leave out":
            line.append([flag, *given] if change != "no value" else [flag])
    for stray in draw(st.lists(st.sampled_from(STRAY), max_size=1)):
        line.insert(draw(st.integers(0, len(line))), [stray])
    return sum(line, [])


# --- the folder in which the commands run


def prepare(folder: Path, features_file: Path) -> None:
    """Fills a folder with what commands read, a golden run and model among it, and with what may be in their way."""
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(folder / "golden", filter="data")
    for domain in ("red", "blue"):
        (folder / f"golden/{domain}.tfrecords").rename(folder / f"{domain}.tfrecords")
    (folder / "golden/instance.pb").rename(folder / "model.pb")
    run = folder / "checkpoints/tiny"
    run.parent.mkdir()
    (folder / "golden/instance").rename(run)
    for step in (4, 6):
        shutil.copy(run / "model.ckpt-40.index", run / f"model.ckpt-{step}.index")
    for file in run.glob("model.ckpt-40*"):
        file.unlink()  # the weights, which the stubs do not need
    (run / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-6"\nall_model_checkpoint_paths: "model.ckpt-6"\n')
    (run / "evaluation.json").write_text('{"best": {"step": 4, "G_kid": 0.5, "F_kid": 0.5}}')
    (run / ".lock").touch()  # as training leaves it
    shutil.rmtree(folder / "golden")
    for name in ("red/a.png", "red/sub/b.png", "blue fruit/a.png", "blue fruit/sub/b.png", "twins/a.png", "twins/a.jpg", "spoilt/a.png"):
        images.write(folder / name, draw(len(name), 12, 8))
    (folder / "cut.png").write_bytes(images.encode(draw(0))[:99])
    shutil.copy(folder / "cut.png", folder / "spoilt/b.png")
    (folder / "-x").mkdir()
    shutil.copy(folder / "cut.png", folder / "-x/a.png")
    for i in range(3):
        images.write(folder / f"many/{i}.png", draw(i, 8, 8))
    for name in ("empty", "taken", "damaged.pb"):
        (folder / name).mkdir(parents=True)
    (folder / "taken/sub").write_text("a file")
    (folder / "taken/trainA").write_text("another")
    (folder / "notes.txt").write_text("notes")
    (folder / "damaged.pb/saved_model.pb").write_text("damaged")
    for i in range(2):
        write_records(folder / f"two-0000{i}-of-00002", [draw(i, 8, 8)])
    (folder / "pairs").mkdir()
    for i, name in enumerate("xy"):
        write_records(folder / "pairs" / name, [draw(i, 8, 8)], pairs=b"a set")
    (folder / "G.pth").write_text("weights")
    (folder / "cut.tfrecords").write_bytes((folder / "red.tfrecords").read_bytes()[:-9])
    shutil.copytree(features_file, folder / "features")
    (folder / "[runs]").symlink_to("checkpoints")
    (folder / "link.pb").symlink_to("model.pb")
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere.png").symlink_to("missing")


class Contents(dict[str, bytes | str | None]):
    """All below a folder: files with their bytes, links with their targets, and folders."""

    def __repr__(self):
        return f"<{len(self)} files and folders>"


def contents() -> Contents:
    """What is in the current folder."""
    found, folders = Contents(), ["."]
    while folders:
        for entry in os.scandir(folders.pop()):
            if entry.is_symlink():
                found[entry.path] = os.readlink(entry.path)
            elif entry.is_dir():
                found[entry.path] = None
                folders.append(entry.path)
            else:
                state = entry.stat()
                found[entry.path] = read(entry.path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    return found


@functools.lru_cache(1000)
def read(file: str, *state: int) -> bytes:
    """A file's bytes; one that is in the same state as when it was last read is not read again."""
    return Path(file).read_bytes()


def restore(before: Contents, after: Contents) -> None:
    """Brings the current folder from one state back to the other."""
    for name in sorted(after, reverse=True):  # what is in a folder before the folder
        if name not in before or before[name] != after[name]:
            os.rmdir(name) if after[name] is None else os.unlink(name)
    for name in sorted(before):
        if not os.path.lexists(name):
            content = before[name]
            if content is None:
                os.mkdir(name)
            elif isinstance(content, str):
                os.symlink(content, name)
            else:
                Path(name).write_bytes(content)


def read_weights(file: Path) -> pytorch.Modules:
    """Stands in for PyTorch, which need not be installed."""
    if file.read_bytes() != b"weights":
        raise cli.InputError(f"{file}: damaged")
    shapes = [(1, 3, 7, 7), (2, 1, 3, 3), (4, 2, 3, 3), (4, 2, 3, 3), (2, 1, 3, 3), (3, 1, 7, 7)]
    filters = [1, 2, 4, 2, 1, 3]
    return {(f"{i}",): {"weight": np.zeros(shape, np.float32), "bias": np.zeros(filters[i])} for i, shape in enumerate(shapes)}


def remembered(load: Callable) -> Callable:
    """Does the same, but once for the same arguments, errors included."""
    known = {}

    def call(*args, **kwargs):
        key = repr((args, kwargs))
        if key not in known:
            try:
                known[key] = load(*args, **kwargs), None
            except cli.InputError as e:
                known[key] = None, e
        loaded, error = known[key]
        if error:
            raise error
        return loaded

    return call


@pytest.fixture(scope="module")
def place(tmp_path_factory, features_file) -> Iterator[Contents]:
    """The folder is the current one, and what takes long is stubbed. Returns what is in it."""
    folder = tmp_path_factory.mktemp("place")
    prepare(folder, features_file)

    def write_one(generator, metadata, file, format, *_):
        if format == "saved_model":
            file.mkdir()
            (file / "saved_model.pb").write_text("a model")
        else:
            file.write_bytes({"onnx": b"\x08\x08\x12", "tflite": b"    TFL3"}[format])
        return "checked"

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(train, "build_model", mock.Mock())
        patch.setattr(train, "train", mock.Mock(return_value=cli.DONE))
        patch.setattr(generator, "build_generator", mock.Mock())
        patch.setattr(checkpoints, "read_parts", mock.Mock())
        patch.setattr(checkpoints, "_readable", lambda checkpoint: run_folder.index_of(checkpoint).is_file())
        patch.setattr(model_files, "write_one", write_one)
        patch.setattr(pytorch, "read", read_weights)
        patch.setattr(generator, "Generator", mock.Mock())
        patch.setattr(pytorch, "assign", mock.Mock())
        patch.setattr(model_files, "load", remembered(model_files.load))
        patch.setattr(features, "load", remembered(features.load))
        patch.setattr(reader, "Reader", remembered(reader.Reader))
        patch.setattr(devices, "quiet_tensorflow", lambda open_devices=lambda: None: open_devices())
        for command in VALID:
            patch.setattr(module_of(command), "parse", parser_of(command).parse_args)
        parser_of("sample_data").set_defaults(n_train=2, n_test=1)  # not hundreds
        patch.setattr(metrics, "psnr", lambda *pictures: math.inf)
        patch.setattr(metrics, "ssim", lambda *pictures: math.nan)
        patch.setattr(images, "contact_sheet", lambda rows: rows[0][1][0])
        patch.setattr(features, "inception", lambda: features.load(features_file))
        patch.setattr(sample_data, "draw", lambda scene, domain, size: np.zeros((8, 8, 3), np.uint8))
        yield contents()


# --- the promise


def run(command: str, argv: list[str]) -> tuple[int, str]:
    """Runs a command and returns its exit status and what it wrote to stderr, its libraries included."""
    with contextlib.ExitStack() as stack:
        files = []
        for number, redirect in (1, contextlib.redirect_stdout), (2, contextlib.redirect_stderr):
            files.append(stack.enter_context(open(os.memfd_create("output"), "r+b")))
            saved = os.dup(number)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, number)
            os.dup2(files[-1].fileno(), number)
            stream = stack.enter_context(open(number, "w", encoding="utf-8", closefd=False))  # as strict as a shell's
            stack.enter_context(redirect(stream))
        try:
            status = cli.run(module_of(command).main, argv)
        except SystemExit as e:  # --help
            status = e.code or cli.DONE
        stream.flush()
        files[1].seek(0)
        return status, files[1].read().decode()


def assert_promise(command: str, argv: list[str], before: Contents) -> int:
    """Runs a command in the folder, which holds `before`, then and when this ends. Returns the exit status."""
    train.train.reset_mock()
    try:
        try:
            status, err = run(command, argv)
        finally:
            after = contents()
        assert status in (cli.DONE, cli.PARTIAL, cli.WRONG_INPUT)
        assert not [name for name in after if ".tmp-" in name]
        if status == cli.WRONG_INPUT:
            assert err.count("\n") == len(err.splitlines()) == 1, err
            assert not changes(before, after)
        elif "-h" not in argv and "--help" not in argv:
            args = module_of(command).parse(argv)
            if not vars(args).get("overwrite"):  # all that was there is there, if maybe under another name
                kept = set(after.values())
                assert not [name for name, content in before.items() if content not in kept]
            if status == cli.DONE:
                assert_output(command, args, before)
        return status
    except Exception as e:
        e.add_note(f"argv: {argv}")
        raise
    finally:
        if after != before:
            restore(before, after)


def changes(before: Contents, after: Contents) -> list[str]:
    return [name for name in before.keys() | after.keys() if name not in before or name not in after or before[name] != after[name]]


def assert_output(command: str, args: Namespace, before: Contents) -> None:
    """What the command promises stands."""
    if command == "build_data" and args.X_output_dir:
        assert images.find(args.X_output_dir)
    elif command == "build_data":
        for output in (args.X_output_file, args.Y_output_file):
            for file in shards.names(output, args.num_shards):
                assert len(record_headers(file)[0])
    elif command == "train":
        run = train.train.call_args.args[3]
        config = Config.load(run)
        if args.load_model is None:
            assert run.parent == args.checkpoints_dir and args.run_name in (None, run.name)
            for name, value in vars(args).items():
                kept = native_precision() if (name, value) == ("precision", "auto") else value
                if name == "init_from":
                    kept = checkpoints.find("--init_from", run_folder.find_weights(value, args.checkpoints_dir))
                assert getattr(config, name, kept) == kept
    elif command == "export_graph":
        config, _ = export_graph.settings(args)
        for output in export_graph.outputs(args, config):
            assert model_files.kind(output) == args.format
            assert args.format != "saved_model" or output.joinpath("saved_model.pb").read_text() == "a model"
    elif command == "convert_torch":
        assert (args.output / "saved_model.pb").read_text() == "a model"
    elif command == "inference":
        jobs = []
        with contextlib.suppress(cli.InputError):  # there are outputs among the inputs now
            _, jobs = inference.plan(Namespace(**{**vars(args), "overwrite": True, "resume": False}), [])
        for job in jobs:
            if (
                args.output != "-"
                and f"./{job.source}" in before
                and not (args.resume and all(f"./{file}" in before for file in job.outputs))
            ):
                sizes = {images.read(file).shape[:2] for file in job.outputs}
                height, width = images.read(job.source).shape[:2]
                size = (args.image_size,) * 2 if args.image_size else images.with_short_side(height, width, 32)
                strip = (2 + bool(args.cycle)) if args.side_by_side else 1
                assert job.source in job.outputs or args.keep_size or sizes == {(size[0], strip * size[1])}
    elif command == "evaluate":
        if args.sheet:
            images.read(args.sheet)
        if args.json:
            assert len(json.loads(args.json.read_text())) == len(args.fake or args.model)
    elif command == "sample_data":
        for folder in sample_data.FOLDERS:
            assert len(images.find(Path(args.output_dir, folder))) == (args.n_test if folder.startswith("test") else args.n_train)


@pytest.mark.parametrize(("command", "line"), [(command, line) for command in VALID for line in VALID[command]])
def test_valid_lines_are_valid(place, command, line):
    assert assert_promise(command, shlex.split(line), place) == cli.DONE


@pytest.mark.parametrize(("command", "flag"), [(c, flag) for c in VALID for flag, action in flags_of(c).items() if action.nargs != 0])
def test_each_value_of_each_flag(place, command, flag):
    action = flags_of(command)[flag]
    lines = [line for line in VALID[command] if flag in line.split()] or VALID[command][:1]
    ends = [[], ["--overwrite"]] if "--overwrite" in flags_of(command) and not takes_number(action) else [[]]
    for line, end in itertools.product(lines, ends):
        if end and "--resume" in line:  # which contradict each other, whatever the value
            continue
        others = sum((group for group in groups(line) if group[0] != flag), [])
        for value in pool(action):
            assert_promise(command, [*others, f"{flag}={value}", *end], place)


@pytest.mark.parametrize("command", VALID)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_any_command_line(place, command, data):
    assert_promise(command, data.draw(command_lines(command), "argv"), place)
