"""The whole way: the chapter's commands as the README prints them, and one picture through every consumer of a trained generator."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import draw
from untrained import write_run

import export_graph
import inference
from formats import model_files
from generator import build_generator
from pictures import images
from system import cli
from training import run_folder
from training.config import Config
from utils import convert2float, convert2int

README = Path(__file__).parent.parent / "README.md"


def chapter() -> list[list[str]]:
    """The chapter's Python commands, as printed in the README."""
    section = README.read_text().split("## The chapter's walk-through")[1].split("\n## ")[0]
    block = re.search(r"```\n(bash download_dataset.sh apple2orange\n.*?)```", section, re.DOTALL).group(1)
    return [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("python ")]


@pytest.mark.filterwarnings("ignore:Even though")  # TensorFlow's, that running eagerly leaves the input pipeline as it is
def test_the_chapters_commands_work_as_printed(call, eager, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("trainA/1", "trainA/2", "trainB/1", "trainB/2", "testA/n07740461_1661")):
        images.write(Path(f"data/apple2orange/{name}.jpg"), draw(i, 256, 256))
    monkeypatch.setattr(run_folder.time, "strftime", lambda form: "20200912-1241")

    commands = chapter()
    assert [command[0] for command in commands] == ["build_data.py", "train.py", "export_graph.py", "inference.py"]
    for script, *flags in commands:
        smaller = ["--max_steps", 1, "--ngf", 1, "--ndf", 1, "--n_res_blocks", 0] if script == "train.py" else []
        tf.config.run_functions_eagerly(script == "train.py")  # to trace a single step takes longer than to make it
        outcome = call(importlib.import_module(script.removesuffix(".py")).main, *flags, *smaller)
        assert outcome.status == cli.DONE, outcome.err
    with_jpeg = images.read("data/apple2orange/output_sample.jpg")
    assert with_jpeg.shape == (256, 256, 3)
    assert tf.train.latest_checkpoint("checkpoints/20200912-1241") == "checkpoints/20200912-1241/model.ckpt-1"
    assert model_files.load("pretrained/orange2apple.pb").metadata["source"] == "orange"


def test_checkpoint_model_and_command_give_the_same_picture(call, records, tmp_path, monkeypatch):
    """Perturbing one residual block of one consumer shows that the comparison sees it."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    images.write(tmp_path / "in.png", picture)
    run = tmp_path / "run"
    write_run(run, records)

    generator = build_generator(Config.load(run), "G")
    module = tf.Module()
    module.G_ema = generator
    tf.train.Checkpoint(model=module).read(str(run / "model.ckpt-6")).assert_existing_objects_matched().expect_partial()
    from_checkpoint = convert2int(generator(convert2float(picture[None]), training=False))[0].numpy()

    write_one = model_files.write_one
    monkeypatch.setattr(
        model_files, "write_one", lambda G, about, file, *how: write_one(G, about, file, *how) if G.name == "G" else file.mkdir()
    )
    call(export_graph.main, "--checkpoint_dir", run, "--XtoY_model", tmp_path / "G.pb", "--YtoX_model", tmp_path / "F.pb")
    from_model = model_files.load(tmp_path / "G.pb")(picture[None])[0]
    call(inference.main, "--model", tmp_path / "G.pb", "--input", tmp_path / "in.png", "--output", tmp_path / "out.png")
    from_command = images.read(tmp_path / "out.png")

    assert np.array_equal(from_command, from_model)
    assert np.abs(from_model.astype(int) - from_checkpoint).max() <= 1  # rounding
    kernel = next(v for v in generator.trainable_variables if v.shape == (3, 3, 8, 8))  # a residual block's first
    kernel.assign_add(tf.random.stateless_normal(kernel.shape, [0, 0], stddev=0.02))
    perturbed = convert2int(generator(convert2float(picture[None]), training=False))[0].numpy()
    assert np.abs(from_model.astype(int) - perturbed).max() > 1
