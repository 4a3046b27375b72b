"""The shell scripts, in a copy of the project, with the Python that runs the tests."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY_RUN, draw

from pictures import images

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


@pytest.mark.parametrize("script", ["build.sh", "train.sh", "export.sh", "infer.sh"])
@pytest.mark.parametrize("arguments", [[], ["../x"], ["--ngf"]])
def test_without_a_name_a_script_says_how_it_is_called(project, script, arguments):
    done = bash(project, project / "scripts" / script, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{script} NAME" in done.stderr


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


@pytest.mark.parametrize("arguments", [[], ["0"], ["x"], ["red2blue"], [2, "../x"]])
def test_train_multi_wants_a_number_and_then_a_name_or_flags(project, arguments):
    done = bash(project, project / "scripts/train_multi.sh", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "train_multi.sh N [NAME]" in done.stderr


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
    done = bash(project, project / "scripts/train_multi.sh", 2, "red2blue", "--batch_size", 2, VENV=str(stand_in.parent))
    assert done.returncode == 7, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert len(lines) == 2 and lines[0].startswith("[1] train.py") and lines[1].startswith("train.py")
    for index, line in zip((1, 0), lines, strict=True):
        assert "--batch_size 2" in line
        config = json.loads(line[line.index("{") :])
        assert config["task"] == {"type": "worker", "index": index} and len(set(config["cluster"]["worker"])) == 2
