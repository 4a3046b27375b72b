"""Makes the golden runs: what users have on their disks from the version that it is run with, and what that version makes of it.

They are made once and stay: later versions have to continue these runs, export them and load these models. So an existing one is never
made anew; a new kind of run or model file gets a golden one of its own. `python tests/golden/make.py NAME`, from the project's folder.

`python tests/golden/make.py FOLDER…` continues the runs in these folders, each called as its folder, and prints what they ended with.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]
STEP, LAST = 40, 43  # of the checkpoint that is kept, and of the end
SMALL = ["--image_size", "32", "--load_size", "36", "--ngf", "1", "--ndf", "1", "--n_res_blocks", "1", "--precision", "float32"]
SMALL += ["--max_steps", str(LAST), "--log_every", "1", "--save_every", str(STEP), "--keep_every", str(STEP), "--pool_size", "2"]
RUNS = {
    "instance": ["--norm", "instance", "--upsample", "resize", "--ema", "0.9", "--lambda_identity", "0.5"],
    "batch": ["--norm", "batch", "--upsample", "transpose", "--ema", "0", "--lambda_identity", "0", "--nouse_lsgan", "--batch_size", "2"],
}
DATA = ["--X", "red.tfrecords", "--Y", "blue.tfrecords", "--checkpoints_dir", "."]
MODELS = {".pb": "saved_model", ".onnx": "onnx", ".tflite": "tflite"}


def machine() -> str:
    """What decides how sums are rounded: the processor, how many cores of it, and TensorFlow."""
    import tensorflow as tf

    file = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in file.read_text().split("\n\n")[0].splitlines()] if file.is_file() else []
    about = {name.strip(): value.strip() for name, _, value in lines}
    names = [about.get(key, "") for key in ("vendor_id", "cpu family", "model")]
    wide = [flag for flag in about.get("flags", "").split() if flag.startswith(("avx", "amx", "fma"))]
    return " ".join([platform.machine(), *names, *wide, f"{os.cpu_count()} cores, TensorFlow {tf.__version__}"])


def numbers(run: Path) -> dict:
    """What a run ended with: every value of its last checkpoint, as a mean of magnitudes and a digest, and its losses step by step."""
    from kills import scalars, tensors

    found = {}
    for name, value in sorted(tensors(run, LAST).items()):
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiu":
            array = np.ascontiguousarray(value)
            found[name] = [float(np.abs(array.astype(np.float64)).mean()), hashlib.sha256(array.tobytes()).hexdigest()[:8]]
    losses = {tag: [value for step, value in points if step > STEP] for tag, points in sorted(scalars(run).items())}
    return {"tensors": found, "scalars": losses}


def main(name: str) -> None:
    import conftest  # which makes TensorFlow quiet, with the threads of train.py

    import export_graph
    import train
    from formats import model_files
    from pictures import images
    from system import cli

    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)
    for file, seed in (("red", 0), ("blue", 9)):
        conftest.write_records(Path(f"{file}.tfrecords"), [conftest.draw(seed + i, 36, 40) for i in range(3)])
    assert cli.run(train.main, [*DATA, *SMALL, *RUNS[name], "--run_name", name]) == cli.DONE
    run = Path(name)
    expected = {"machine": machine(), **numbers(run)}
    keep = {"config.json", "data.json", "history.jsonl", *(f.name for f in run.glob(f"model.ckpt-{STEP}.*"))}
    for file in run.iterdir():
        if file.name not in keep:
            file.unlink()
    (run / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{STEP}"\nall_model_checkpoint_paths: "model.ckpt-{STEP}"\n')
    (run / "history.jsonl").write_text((run / "history.jsonl").read_text().splitlines()[0] + "\n")
    picture = conftest.draw(4, 34, 43)
    images.write("picture.png", picture)
    for suffix, format in MODELS.items():
        models = ["--XtoY_model", f"./{name}{suffix}", "--YtoX_model", f"./back{suffix}"]
        assert cli.run(export_graph.main, ["--checkpoint_dir", name, *models, "--format", format]) == cli.DONE
        back = Path(f"back{suffix}")
        images.write(f"{name}{suffix}.png", model_files.load(f"{name}{suffix}")(picture[None])[0])
        shutil.rmtree(back) if back.is_dir() else back.unlink()
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    with tarfile.open(HERE / f"{name}.tar.xz", "w:xz") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, file.name)


def go_on(folders: list[str]) -> dict[str, dict]:
    import conftest  # noqa: F401  as in `main`

    import train
    from system import cli

    found = {}
    for folder in map(Path, folders):
        os.chdir(folder)
        assert cli.run(train.main, ["--load_model", folder.name, "--checkpoints_dir", "."]) == cli.DONE
        found[folder.name] = numbers(Path(folder.name))
    return found


if __name__ == "__main__":
    if Path(sys.argv[1]).is_dir():
        print(json.dumps(go_on(sys.argv[1:])))
        sys.exit()
    assert not (HERE / f"{sys.argv[1]}.tar.xz").exists(), "a golden run stays as it is"
    main(sys.argv[1])
