"""The peer must do the same work, or its time means nothing; and what is counted must be what is done."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

torch = pytest.importorskip("torch", reason="bash scripts/setup.sh bench installs it")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import flops  # noqa: E402
import peer  # noqa: E402
import run  # noqa: E402
import subjects  # noqa: E402
import turns  # noqa: E402
from discriminator import Discriminator  # noqa: E402
from generator import Generator  # noqa: E402
from model import CycleGAN  # noqa: E402
from training.config import Config  # noqa: E402

SIZE, NGF, NDF, BLOCKS = 32, 4, 4, 1


def to_torch(pictures):
    return torch.from_numpy(np.asarray(pictures).transpose(0, 3, 1, 2).copy())


@pytest.fixture(scope="module")
def both():
    """Our model and the peer's with equal weights, and a batch of two pictures of each domain."""
    keras.utils.set_random_seed(1)
    as_in_the_paper = {"upsample": "transpose", "lambda_identity": 0, "ema": 0, "precision": "float32"}
    ours = CycleGAN(Config(image_size=SIZE, ngf=NGF, ndf=NDF, n_res_blocks=BLOCKS, batch_size=2, **as_in_the_paper))
    theirs = peer.CycleGAN(NGF, NDF, BLOCKS)
    for name in ("G", "F", "D_X", "D_Y"):
        peer.take_weights(getattr(theirs, name), getattr(ours, name))
    draw = np.random.default_rng(0)
    x, y = draw.uniform(-1, 1, (2, 2, SIZE, SIZE, 3)).astype(np.float32)
    return ours, theirs, x, y


def test_the_peers_networks_are_ours(both):
    ours, theirs, x, _ = both
    for name in ("G", "D_X"):
        expected = np.asarray(getattr(ours, name)(x))
        with torch.no_grad():
            found = getattr(theirs, name)(to_torch(x)).numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.long
def test_a_step_of_the_peer_gives_our_losses_and_our_weights(both):
    ours, theirs, x, y = both
    found = theirs.train_step(to_torch(x), to_torch(y))
    losses = ours.train_step(tf.constant(x), tf.constant(y))
    assert found == pytest.approx([float(losses[f"loss/{name}"]) for name in ("G", "F", "cycle", "D_X", "D_Y")], rel=1e-5)
    for name in ("G", "F", "D_X", "D_Y"):
        for parameter, weight in zip(getattr(theirs, name).parameters(), getattr(ours, name).trainable_variables, strict=True):
            found = parameter.detach().numpy()
            found = found.transpose(2, 3, 1, 0) if found.ndim == 4 else found
            # Adam's first step is one learning rate up or down, whichever way a gradient points that is hardly more than rounding.
            off = np.abs(found - weight.numpy()) > 1e-5
            assert off.mean() < 0.02, weight.path


@pytest.mark.parametrize(
    ("network", "counted"),
    [(Generator(4, 2, upsample="transpose"), flops.generator(64, 4, 2)), (Discriminator(4), flops.discriminator(64, 4))],
)
def test_operations_are_counted_as_the_networks_do_them(network, counted):
    found, layers = [], [layer for layer in network.layers if hasattr(layer, "kernel")]
    outputs = keras.Model(network.input, [layer.output for layer in layers])(tf.zeros((1, 64, 64, 3)))
    for layer, y in zip(layers, outputs, strict=True):
        height, width, a, b = layer.kernel.shape
        pixels = y.shape[1] * y.shape[2] / (4 if "up" in layer.name else 1)  # a transposed convolution: the pixels that it reads
        found.append(2.0 * pixels * height * width * a * b)
    assert found == counted


def test_what_is_measured_in_turn_is_measured_alike():
    measured = turns.Measured([1.0, 2.0, 4.0], 0), turns.Measured([2.0, 2.0, 2.0], 0)
    assert measured[0].ratio(measured[1]) == (1.0, 0.5, 2.0) and measured[0].median == 2.0


SUBJECTS = """
import sys
sys.path.insert(0, {benchmarks!r})
from turns import serve

calls = []

def work():
    calls.append(1)
    print("what a library has to say")
    if len(calls) > int(sys.argv[1]):
        raise ValueError(f"no more than {{sys.argv[1]}}, " + "really " * 99)

serve(work)
"""


def test_what_fails_says_why_and_the_others_go_on(tmp_path, monkeypatch):
    (tmp_path / "subjects.py").write_text(SUBJECTS.format(benchmarks=str(BENCHMARKS)))
    monkeypatch.setattr(turns, "HERE", tmp_path)
    measured, failed = turns.measure({"at once": ["0"], "well": ["9"], "later": ["2"]}, 3)
    assert list(measured) == ["well"] and len(measured["well"].seconds) == 3 and measured["well"].megabytes > 5
    assert list(failed) == ["at once", "later"] and failed["later"].startswith("ValueError: no more than 2, really")
    assert all(len(reason) <= turns.LONGEST + 1 for reason in failed.values())


def test_a_process_that_says_nothing_is_told_by_its_exit_status(tmp_path):
    with (tmp_path / "said").open("w+") as said:
        assert turns.why(said, -9) == "exit status -9"


@pytest.fixture
def report(monkeypatch, capsys):
    """`report(row, measured, failed)`: what a row leaves behind of such figures: its cells, the notes, and whether it failed."""

    def report(row, measured, failed=None):
        monkeypatch.setattr(run, "measure", lambda subjects, turns: (dict(measured), failed or {}))
        made = run.Report("folder", 2, run.Work())
        made.compare(row)
        head, _, cells = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.strip().splitlines()]
        return dict(zip(head, cells, strict=False)), made.notes, made.failed

    return report


def row(**more):
    return run.Row("work, s", ["our_step", "--precision", "bfloat16"], {"slow": [], "fast": []}, "≤ 0.90", **more)


FIGURES = {
    "ours": turns.Measured([2.0, 2.0], 2284, 604),
    "slow": turns.Measured([5.0, 5.0], 1, 0),
    "fast": turns.Measured([4.0, 2.0], 1923, 233),
    "matrix product": turns.Measured([0.5, 0.5], 1, 0),
}


def test_a_row_shows_the_fastest_peer_the_memory_and_the_floor(report):
    cells, notes, failed = report(row(operations=3e12, floor=1.3, limit=lambda theirs: 0.95 * theirs + 583), FIGURES)
    assert cells == {
        "what": "work, s",
        "ours": "2",
        "peer": "3",
        "best setting of the peer": "fast",
        "ratio (least … most)": "**0.75** (0.50 … 1.00)",
        "target": "≤ 0.90",
        "MB": "2284 (1680 without imports) / 1923 (1690); ≤ 2410",
        "of the floor": "1.33 (target ≤ 1.30)",
    }
    assert notes == ["work, s: slow 5, matrix product 2000 GFLOP/s"] and not failed


@pytest.mark.parametrize("lost", ["ours", "fast", "matrix product", "slow fast"])
def test_a_row_says_what_failed(report, lost):
    lost = lost.split() if " fast" in lost else [lost]
    failed = {name: "Error: a | b" for name in lost}
    cells, notes, any_failed = report(row(operations=3e12), {k: v for k, v in FIGURES.items() if k not in lost}, failed)
    assert any_failed
    if lost == ["ours"]:
        assert cells["ours"] == "failed: Error: a ¦ b"
    else:
        assert cells["ours"] == "2" and notes[: len(lost)] == [f"work, s: {name} failed: Error: a | b" for name in lost]
    assert cells.get("best setting of the peer", "") == {"fast": "slow", "matrix product": "fast"}.get(lost[0], "")


def test_the_table_measures_every_subject():
    source = (BENCHMARKS / "run.py").read_text()
    assert [name for name in subjects.SUBJECTS if f'"{name}"' not in source] == ["export"]  # which the others have made for them


def test_settings_are_the_papers_or_those_of_train_py(monkeypatch):
    def settings(*flags):
        monkeypatch.setattr(sys, "argv", ["subjects.py", "our_step", *flags])
        config = subjects.our_config(subjects.parse())
        return config.upsample, config.lambda_identity, config.ema

    assert settings() == ("transpose", 0, 0)
    assert settings("--defaults") == (Config().upsample, Config.lambda_identity, Config.ema)


def start(command: str) -> subprocess.CompletedProcess:
    """Runs one of the benchmarks. One thread for PyTorch: where others compute, its threads burn time waiting for each other."""
    for package in ("matplotlib", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason="bash scripts/setup.sh bench installs it")
    script, *flags = command.split()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(BENCHMARKS / script), *flags], capture_output=True, text=True, timeout=3000, env=environment)
    assert done.returncode == 0 and "failed" not in done.stdout, done.stdout + done.stderr
    return done.stdout


def table(printed: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| ") and not line.startswith("| ---")]


def test_one_command_says_first_what_it_runs_on(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--only"])
    assert run.main() == 0
    assert re.search(r"tensorflow \d", capsys.readouterr().out)


@pytest.mark.long
def test_the_table_is_complete():
    printed = start(f"run.py --tiny --turns 1 --bfloat16 --only {' '.join(run.PARTS)}")
    rows = [cells for cells in table(printed) if cells[0] not in ("what", "step of train.py, s")]
    assert len(rows) == 5 + 6 + 2 + 3 + 2 + 1
    assert all(re.match(r"[0-9.]+%?$", cells[1]) for cells in rows), printed
    assert len(rows[-1]) == 3  # seconds in both number types


@pytest.mark.long
def test_growth_is_measured_and_drawn(tmp_path):
    assert len(table(start(f"growth.py --tiny --turns 1 --plot {tmp_path / 'plot.png'}"))) == 2
    assert (tmp_path / "plot.png").stat().st_size > 5000


@pytest.mark.long
def test_every_format_is_measured():
    rows = table(start("exports.py --tiny --turns 1"))
    assert len(rows) == 6 and all("" not in cells for cells in rows[2:])


@pytest.mark.long
def test_memory_is_measured(tmp_path):
    rows = table(start(f"memory.py --records 200 --shards 2 --every 100 --folder {tmp_path}"))
    assert [cells[0] for cells in rows[1:]] == ["10", "100", "200"]
