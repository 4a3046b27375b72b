"""The shell scripts, in a copy of the project, with the Python that runs the tests."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import TINY_RUN, draw

import build_data
import export_graph
import train
from pictures import images
from system import cli

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for file in PROJECT.glob("*.py"):
        shutil.copy(file, folder)
    for part in ("scripts", *(package.parent.name for package in PROJECT.glob("*/__init__.py"))):
        shutil.copytree(PROJECT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for i in range(2):
        images.write(folder / f"data/red2blue/trainA/{i}.png", draw(i))
        images.write(folder / f"data/red2blue/trainB/{i}.png", draw(5 + i))
    return folder


def bash(project: Path, *command: object, **environment: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "VENV": sys.prefix, **environment}
    return subprocess.run(["bash", *map(str, command)], cwd=project.parent, env=environment, capture_output=True, text=True)


@pytest.mark.long
def test_the_scripts_go_the_whole_way_and_work_a_second_time(project):
    pictures, out = project / "data/red2blue/trainA", project / "out"
    model = project / "pretrained/red2blue.pb"
    commands = [
        ("build.sh", "red2blue", "--max_size", 40),
        ("train.sh", "red2blue", *TINY_RUN),
        ("export.sh", "red2blue", "--ema"),
        ("infer.sh", "red2blue", pictures, out, "--overwrite"),
    ]
    for command, *flags in commands:
        for _ in range(2 if command != "infer.sh" else 1):
            done = bash(project, project / "scripts" / command, *flags)
            assert done.returncode == 0, done.stderr
    assert sorted(f.name for f in (project / "data/tfrecords/red2blue").iterdir()) == ["blue.tfrecords", "red.tfrecords"]
    assert (project / "checkpoints/red2blue/model.ckpt-6.index").exists()
    assert (model / "saved_model.pb").exists()
    assert (project / "pretrained/blue2red.pb/saved_model.pb").exists()
    assert sorted(f.name for f in out.iterdir()) == ["0.png", "1.png"]


STAND_IN = """#!PYTHON -IS
import json, os, signal, sys

def stop(number, frame):
    os.write(1, f"stopped by {signal.Signals(number).name}\\n".encode())
    os._exit(128 + number)

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, stop)
print(json.dumps([os.getcwd(), *sys.argv[1:]]), flush=True)
if os.environ.get("WAIT_AT") in sys.argv:
    os.write(1, b"waiting\\n")
    signal.pause()
"""


class Clone:
    """The scripts alone, with a stand-in for Python that says where it is and what it was given; called from another folder."""

    def __init__(self, folder: Path):
        self.root, self.here, self.venv = folder / "clone", folder / "here", folder / "venv"
        shutil.copytree(PROJECT / "scripts", self.root / "scripts")
        for file in PROJECT.glob("requirements*.txt"):
            shutil.copy(file, self.root)
        self.here.mkdir()
        self.file(self.venv / "bin/python", STAND_IN.replace("PYTHON", sys.executable)).chmod(0o755)

    def file(self, path: Path | str, text: str = "") -> Path:
        """Writes a file, `path` being from the project's folder, and the folders above it."""
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(self, script: str, *arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.Popen:
        cwd = cwd or self.here
        command = ["bash", os.path.relpath(self.root / "scripts" / script, cwd), *map(str, arguments)]
        environment = {**os.environ, "VENV": str(self.venv), **environment}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=cwd, env=environment, text=True, start_new_session=True, **pipes)

    def run(self, script: str, *arguments: object, **options) -> subprocess.CompletedProcess:
        with self.start(script, *arguments, **options) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def python(self, script: str, *arguments: object, **options) -> list[str]:
        """Where the last Python that a script started was, and what it was given."""
        done = self.run(script, *arguments, **options)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout.splitlines()[-1])

    def refused(self, script: str, *arguments: object, **options) -> str:
        """The line with which a script refuses what was typed, before Python is started."""
        done = self.run(script, *arguments, **options)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith(f"{script}: ")
        return done.stderr


@pytest.fixture
def clone(tmp_path) -> Clone:
    return Clone(tmp_path)


@pytest.mark.parametrize("script", sorted(file.name for file in (PROJECT / "scripts").glob("*.sh")))
def test_help(clone, script):
    done = clone.run(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines and len(set(lines)) == len(lines)
    if script != "common.sh":
        assert lines[0].startswith(f"usage: bash scripts/{script}")
    assert clone.run(script, "-h").stdout == done.stdout


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("build.sh", []),
        ("train.sh", []),
        ("export.sh", []),
        ("infer.sh", []),
        ("infer.sh", ["apple2orange", "photo.jpg"]),
        ("train_multi.sh", []),
        ("demo.sh", ["again"]),
        ("demo_pairs.sh", ["again"]),
    ],
)
def test_without_a_name_a_script_says_how_it_is_called(clone, script, arguments):
    done = clone.run(script, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == clone.run(script, "--help").stdout


@pytest.mark.parametrize("script", ["build.sh", "train.sh", "export.sh"])
@pytest.mark.parametrize("name", ["", "../x", "--ngf", "a\nb"])
def test_what_is_no_name(clone, script, name):
    shown = name.replace("\n", " ")
    assert f"'{shown}' is no name of a data set" in clone.refused(script, name)


@pytest.mark.parametrize("script", ["build.sh", "train.sh", "export.sh", "infer.sh"])
def test_the_flags_of_a_script_are_asked_for_after_the_name(clone, script):
    assert clone.python(script, "cat2dog", "--help")[-1] == "--help"


def test_a_script_can_be_called_by_a_link(clone):
    """A link to a link, or a link to the folder; what lies where one stands is not taken for the project's."""
    clone.file(clone.here / "train.py")
    link, folder = clone.here / "t.sh", clone.here / "links"
    folder.mkdir()
    (folder / "train.sh").symlink_to("../../clone/scripts/train.sh")
    link.symlink_to("links/train.sh")
    (clone.here / "scripts").symlink_to(clone.root / "scripts")
    for script in (link, clone.here / "scripts/train.sh"):
        assert clone.python(script, "cat2dog", "--X=/x", "--Y=y")[:2] == [str(clone.root), "train.py"]
        assert clone.run(script, "--help").stdout == clone.run("train.sh", "--help").stdout


@pytest.mark.parametrize("script", sorted(file.name for file in (PROJECT / "scripts").glob("*.sh") if file.name != "common.sh"))
def test_a_script_without_the_others_does_nothing(clone, script):
    clone.file(clone.here / script, (PROJECT / "scripts" / script).read_text())
    done = clone.run(clone.here / script, PATH=f"{clone.venv}/bin:{os.environ['PATH']}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "common.sh: No such file" in done.stderr


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize(
    ("script", "arguments", "wait_at", "sent"),
    [
        ("build.sh", ["cat2dog"], "build_data.py", signal.SIGTERM),
        ("train.sh", ["cat2dog", "--X=x", "--Y=y"], "train.py", signal.SIGTERM),
        ("export.sh", ["cat2dog"], "export_graph.py", signal.SIGTERM),
        ("infer.sh", ["./model.pb", "in", "out"], "--input=in", signal.SIGTERM),
        ("tensorboard.sh", [], "--logdir", signal.SIGTERM),
        ("test.sh", [], "pytest", signal.SIGTERM),
        *(("demo.sh", [], "sample_data.py", sent) for sent in SIGNALS),
        *(("setup.sh", [], "install", sent) for sent in SIGNALS),
        ("demo.sh", [], "install", signal.SIGTERM),
        ("demo_pairs.sh", [], "train.py", signal.SIGINT),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else value if isinstance(value, str) else "",
)
def test_a_signal_to_a_script_ends_its_python(clone, ctrl_c_counts, script, arguments, wait_at, sent):
    assert_ended(clone.start(script, *arguments, WAIT_AT=wait_at), sent)


def test_a_signal_ends_setup_while_it_makes_an_environment(clone):
    python = shutil.move(clone.venv / "bin/python", clone.root)
    assert_ended(clone.start("setup.sh", WAIT_AT="venv", PYTHON=str(python)), signal.SIGTERM)


def assert_ended(process: subprocess.Popen, sent: signal.Signals) -> None:
    """A script whose Python waits ends with it when it gets a signal, and says nothing of its own."""
    with process:
        try:
            while process.stdout.readline() != "waiting\n":
                assert process.poll() is None
            process.send_signal(sent)
            process.wait(timeout=10)
            os.set_blocking(process.stdout.fileno(), False)  # an orphan would hold it open
            assert process.stdout.read() == f"stopped by {sent.name}\n"
            assert (process.returncode, process.stderr.read()) == (128 + sent, "")
        finally:
            with contextlib.suppress(ProcessLookupError):  # whatever a script that fails has left running
                os.killpg(process.pid, signal.SIGKILL)


def test_train_before_build(clone):
    assert "data/tfrecords/cat2dog/cat.tfrecords: " in clone.refused("train.sh", "cat2dog")
    clone.file("data/tfrecords/cat2dog/cat.tfrecords")
    words = clone.refused("train.sh", "cat2dog")
    assert "data/tfrecords/cat2dog/dog.tfrecords: " in words and "bash scripts/build.sh cat2dog" in words
    assert "build.sh cat2dog" in clone.refused("train_multi.sh", 2, "cat2dog")


def test_train_finds_what_build_made(clone):
    folder = "data/tfrecords/cat2dog"
    clone.file(f"{folder}/cat.tfrecords")
    for i in range(12):
        clone.file(f"{folder}/dog-{i:05}-of-00012.tfrecords")
    begin = [str(clone.root), "train.py", "--run_name", "cat2dog", "--X", f"{folder}/cat.tfrecords"]
    assert clone.python("train.sh", "cat2dog", "--ngf", 8) == [*begin, "--Y", f"{folder}/dog.tfrecords@12", "--ngf", "8"]
    assert clone.python("train.sh", "cat2dog", "--Y=gs://b/y") == [*begin, "--Y=gs://b/y"]
    clone.file(f"{folder}/dog-00000-of-00002.tfrecords")
    words = clone.refused("train.sh", "cat2dog")
    assert "dog-00000-of-00002.tfrecords" in words and "dog-00000-of-00012.tfrecords" in words and "remove" in words
    clone.file(f"{folder}/dog.tfrecords")
    assert clone.python("train.sh", "cat2dog") == [*begin, "--Y", f"{folder}/dog.tfrecords"]
    clone.file("checkpoints/cat2dog/config.json")
    assert clone.python("train.sh", "cat2dog") == [str(clone.root), "train.py", "--load_model", "cat2dog"]


BOTH = ["--X_input_dir", "data/cat2dog_pairs/trainA", "--Y_input_dir", "data/cat2dog_pairs/trainB"]
UNPAIRED = [word.replace("_pairs", "") for word in BOTH]


@pytest.mark.parametrize(
    ("name", "there", "typed", "given"),
    [
        ("cat2dog", "trainA", [], UNPAIRED),
        ("cat2dog", "trainA", ["--AB_input_dir=/x"], []),
        ("cat2dog", "trainA", ["--X_from", "grey"], UNPAIRED[2:]),
        ("cat2dog_pairs", "trainA", ["--max_size", "9"], [*BOTH, "--paired"]),
        ("cat2dog_pairs", "train", ["--direction", "BtoA"], ["--AB_input_dir", "data/cat2dog_pairs/train"]),
        ("cat2dog_pairs", "train", ["--X_input_dir=/x"], [*BOTH, "--paired"]),
        ("cat2dog_pairs", "trainB", ["--X_from=edges"], BOTH[2:]),
    ],
)
def test_build_finds_pairs(clone, name, there, typed, given):
    clone.file(f"data/{name}/{there}/1.png")
    outputs = ["--X_output_file", f"data/tfrecords/{name}/cat.tfrecords", "--Y_output_file", f"data/tfrecords/{name}/dog.tfrecords"]
    assert clone.python("build.sh", name, *typed) == [str(clone.root), "build_data.py", *outputs, *given, "--overwrite", *typed]


def test_train_takes_pairs_for_pix2pix(clone):
    folder = "data/tfrecords/maps_pairs"
    for domain in "AB":
        clone.file(f"{folder}/maps_{domain}.tfrecords")
    given = ["--run_name", "maps_pairs", "--model", "pix2pix", "--X", f"{folder}/maps_A.tfrecords", "--Y", f"{folder}/maps_B.tfrecords"]
    assert clone.python("train.sh", "maps_pairs", "--ngf", 8) == [str(clone.root), "train.py", *given, "--ngf", "8"]
    clone.file("checkpoints/maps_pairs/config.json")
    assert clone.python("train.sh", "maps_pairs") == [str(clone.root), "train.py", "--load_model", "maps_pairs"]
    assert clone.python("export.sh", "maps_pairs")[1:] == ["export_graph.py", "--checkpoint_dir", "checkpoints/maps_pairs"]


def test_the_demo_of_pairs_goes_on_where_it_was_stopped(clone):
    for begun in (False, True):
        done = clone.run("demo_pairs.sh")
        assert (done.returncode, done.stderr) == (0, "")
        commands = [json.loads(line)[1:] for line in done.stdout.splitlines() if line.startswith("[")]
        drawn = [] if begun else ["sample_data.py"]
        steps = [*drawn, "build_data.py", "train.py", "export_graph.py", "inference.py", "evaluate.py"]
        assert [command[0] for command in commands if command[0].endswith(".py")] == steps
        training = next(command for command in commands if command[0] == "train.py")
        assert training[1:] == ["--load_model", "pairs"] if begun else training[1:3] == ["--model", "pix2pix"]
        clone.file("checkpoints/pairs/config.json")
        clone.file("data/pairs/trainA/0.png")


@pytest.mark.parametrize(("script", "command"), [("build.sh", build_data), ("train.sh", train), ("export.sh", export_graph)])
def test_paths_that_are_typed_are_the_callers(clone, monkeypatch, script, command):
    """Of all flags that take one: they are found by what `--help` calls their values."""
    monkeypatch.setattr(cli.Parser, "parse_args", lambda parser, argv: parser)
    values = {action.option_strings[0]: action.metavar for action in command.parse([])._actions if action.option_strings}
    paths = [flag for flag, value in values.items() if value in ("FILE", "DIR", "PATH")]
    names = [flag for flag, value in values.items() if value in ("MODEL", "RUN", "NAME") and flag not in ("--run_name", "--norm")]
    assert len(paths) > 2
    typed = [word for flag in paths + names for word in (flag, "a b/x", f"{flag}=../x", f"{flag}=/x", f"{flag}=gs://b/x", f"{flag}=x")]
    here = [
        word
        for flag in paths + names
        for word in (flag, f"{clone.here}/a b/x", f"{flag}={clone.here}/../x", f"{flag}=/x", f"{flag}=gs://b/x")
        + ((f"{flag}={clone.here}/x",) if flag in paths else (f"{flag}=x",))
    ]
    assert clone.python(script, "cat2dog", *typed, "--seed", "x")[-len(typed) - 2 :] == [*here, "--seed", "x"]
    assert clone.python(script, "cat2dog", *typed, cwd=clone.root)[-len(typed) :] == typed


def test_infer_takes_paths_from_where_one_stands(clone):
    clone.file("pretrained/apple2orange.pb/saved_model.pb")
    given = clone.python("infer.sh", "apple2orange", "-photo.jpg", "out/a b.png", "--gallery", "page.html")
    flags = [f"--model={clone.root}/pretrained/apple2orange.pb", "--input=-photo.jpg", "--output=out/a b.png", "--gallery", "page.html"]
    assert given == [str(clone.here), f"{clone.root}/inference.py", *flags]


@pytest.mark.parametrize(
    ("there", "typed", "model"),
    [
        (["a.pb/saved_model.pb", "a.onnx", "a.tflite"], "a", "a.pb"),
        (["a.onnx", "a.tflite"], "a", "a.onnx"),
        (["a.tflite"], "a", "a.tflite"),
        (["a.pb/saved_model.pb", "a.onnx"], "a.onnx", "a.onnx"),
        (["a.pb/saved_model.pb"], "a.pb", "a.pb"),
        (["a/saved_model.pb"], "a", "a"),
    ],
)
def test_names_of_models(clone, there, typed, model):
    for file in there:
        clone.file(f"pretrained/{file}")
    clone.file(clone.here / "a" / "photo.jpg")  # a folder called like the model does not hide it
    assert clone.python("infer.sh", typed, "in", "out")[2] == f"--model={clone.root}/pretrained/{model}"


def test_models_elsewhere(clone):
    clone.file(clone.here / "mine.onnx")
    clone.file("pretrained/apple2orange.pb/saved_model.pb")
    clone.file("pretrained/b.onnx")
    for path in ("mine.onnx", "./mine.onnx", "/x/y.pb", "../x"):
        assert clone.python("infer.sh", path, "in", "out")[2] == f"--model={path}"
    words = clone.refused("infer.sh", "nope", "in", "out")
    assert "nope: no such model in pretrained/, which has apple2orange.pb, b.onnx" in words


def test_tensorboard_shows_runs_that_exist(clone):
    assert "cat2dog: no such run in checkpoints/, which has none" in clone.refused("tensorboard.sh", "cat2dog")
    for name in ("cat2dog", "20200912-1241"):
        clone.file(f"checkpoints/{name}/config.json")
    for name in ("cat2dgo", "../x", "", "cat2dog/.."):
        assert f"tensorboard.sh: {name}: no such run in checkpoints/, which has 20200912-1241, cat2dog;" in clone.refused(
            "tensorboard.sh", name
        )
    assert clone.python("tensorboard.sh", "cat2dog", "--port", 1)[-4:] == ["--logdir", "checkpoints/cat2dog", "--port", "1"]
    assert clone.python("tensorboard.sh", "--port", 1)[-4:] == ["--logdir", "checkpoints/", "--port", "1"]


def test_tensorboard_says_nothing_of_tensorflow(project):
    done = bash(project, project / "scripts/tensorboard.sh", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"starting TensorBoard, some seconds ...\n{version('tensorboard')}\n", "")


@pytest.mark.parametrize("script", ["train.sh", "infer.sh"])
def test_without_an_environment_it_is_set_up(clone, script):
    done = clone.run(script, "a2b", "--help", "--help", VENV=".venv", PYTHON="no-such-python")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("setup.sh: no Python 3.11")


def test_setup_mends_an_environment_that_was_stopped_while_it_was_made(clone):
    """There is a Python, but no pip yet."""
    python = clone.venv / "bin/python"
    python.write_text('#!/bin/sh\n[ "$2" != pip ] || exit 1\n')
    maker = clone.file("python3", f'#!/bin/sh\n[ "$1" != -m ] || echo "#!/bin/sh" > "{python}"\n')
    maker.chmod(0o755)
    done = clone.run("setup.sh", PYTHON=str(maker))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Making a virtual environment" in done.stdout
    assert clone.run("setup.sh").stdout == ""


def test_setup_takes_what_is_installed_as_it_is(project, tmp_path):
    """No pip is called when every requirements file has its copy in the environment; one that changed is installed again."""
    for file in PROJECT.glob("requirements*.txt"):
        shutil.copy(file, project)
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    (venv / "bin/python").chmod(0o755)

    def calls(*arguments: str) -> str:
        (tmp_path / "calls").unlink(missing_ok=True)
        assert bash(project, project / "scripts/setup.sh", *arguments, VENV=str(venv)).returncode == 0
        return (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else ""

    assert "-r requirements.txt" in calls()
    assert calls() == ""
    assert "-rrequirements-dev.txt" in calls("dev")
    assert calls("dev") == calls() == ""
    assert "-rrequirements-torch.txt" in calls("dev", "torch")
    (project / "requirements.txt").write_text("changed")
    assert "-rrequirements.txt" in calls("dev")


def test_a_package_that_two_files_name_has_one_version():
    lines = [line.split("#")[0].strip() for file in PROJECT.glob("requirements*.txt") for line in file.read_text().splitlines()]
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert {line for line in lines if "==" in line} == {f"{name}=={version}" for name, version in pins.items()}


def test_setup_names_the_pythons_that_it_wants(project, tmp_path):
    done = bash(project, project / "scripts/setup.sh", VENV=str(tmp_path / "venv"), PYTHON="no-such-python")
    assert done.returncode == 2
    assert "3.11, 3.12 or 3.13" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("arguments", [["0"], ["x"], ["red2blue"], [2, "../x"]])
def test_train_multi_wants_a_number_and_then_a_name_or_flags(clone, arguments):
    assert f"'{arguments[-1]}' is no n" in clone.refused("train_multi.sh", *arguments)


def test_train_multi_starts_workers_that_know_each_other(project):
    """A stand-in for Python says what it was given, and fails in worker 1."""
    stand_in = project / "stand-in" / "bin"
    stand_in.mkdir(parents=True)
    script = """#!/bin/sh
        [ "$1" = -c ] && exec PYTHON "$@"
        echo "$@" "$TF_CONFIG"
        case $TF_CONFIG in *'"index": 1'*) exit 7 ;; esac
    """
    (stand_in / "python").write_text(script.replace("PYTHON", sys.executable))
    (stand_in / "python").chmod(0o755)
    done = bash(project, project / "scripts/train_multi.sh", 2, "red2blue", "--X=x", "--Y=y", "--batch_size", 2, VENV=str(stand_in.parent))
    assert done.returncode == 7, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert len(lines) == 2 and lines[0].startswith("[1] train.py") and lines[1].startswith("train.py")
    for index, line in zip((1, 0), lines, strict=True):
        assert "--batch_size 2" in line
        config = json.loads(line[line.index("{") :])
        assert config["task"] == {"type": "worker", "index": index} and len(set(config["cluster"]["worker"])) == 2
