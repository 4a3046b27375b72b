"""Kills a real run again and again, and compares what comes out in the end with a run that nobody disturbed.

    python tests/kills.py --kills 24 --while_saving 8

Kills come at random moments and, as often as asked for, in the middle of a save, which the temporary files left behind prove; some are
SIGTERM and Ctrl-C, most SIGKILL. Weights, optimizer slots, pools, averages and logged scalars must be equal bit for bit.
"""

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).parent.parent
FLAGS = ["--image_size", "32", "--ngf", "8", "--ndf", "8", "--n_res_blocks", "1", "--pool_size", "2"]
FLAGS += ["--ema", "0.9", "--lambda_identity", "0.5", "--save_every", "5", "--log_every", "5"]


@dataclass
class Tally:
    """What happened."""

    signals: dict[str, int] = field(default_factory=dict)
    while_saving: int = 0
    before_first_checkpoint: int = 0

    @property
    def kills(self) -> int:
        return sum(self.signals.values())


def train(folder: Path, *flags: object) -> subprocess.Popen:
    """Starts train.py in `folder`; its output is added to `folder`/log."""
    with open(folder / "log", "a") as log:
        command = [sys.executable, str(PROJECT / "train.py"), *map(str, flags)]
        return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def go_on(folder: Path, *flags: object) -> subprocess.Popen:
    """Continues the run that is killed, or begins it."""
    started = (folder / "checkpoints" / "cut" / "config.json").exists()
    return train(folder, *(["--load_model", "cut"] if started else [*flags, "--run_name", "cut"]))


def steps_of(run: Path) -> list[int]:
    """The steps of the complete checkpoints."""
    return sorted(int(file.stem.rpartition("-")[2]) for file in run.glob("model.ckpt-*.index"))


def saving(run: Path) -> bool:
    """Tells whether a save is under way, or was when the run was killed."""
    return any(run.glob(".saving-*"))


def kill(process: subprocess.Popen, run: Path, rng: random.Random, while_saving: bool, longest: float) -> signal.Signals | None:
    """Kills `process`, in a save or within `longest` seconds, and returns the signal; None if it had ended by itself."""
    if while_saving:
        number, saves, newest = signal.SIGKILL, rng.randrange(1, 4), steps_of(run)[-1:]  # saves to let pass, so that the run gets on
        while process.poll() is None and not (saves <= 0 and saving(run)):
            saves -= newest != (newest := steps_of(run)[-1:])
    else:
        number = rng.choices([signal.SIGKILL, signal.SIGTERM, signal.SIGINT], [4, 1, 1])[0]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, longest))
    ended = process.poll() is not None
    process.send_signal(number)
    process.wait()
    return None if ended else number


def disturb(folder: Path, flags: list, kills: int, while_saving: int, longest: float, seed: int = 0, say=lambda text: None) -> Tally:
    """Trains `folder`/checkpoints/cut to its end through that many kills. Raises `RuntimeError` if the run cannot be finished."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would its children
    rng, tally, run = random.Random(seed), Tally(), folder / "checkpoints" / "cut"
    while tally.kills < kills or tally.while_saving < while_saving:
        process = go_on(folder, *flags)
        in_save = rng.random() < (while_saving - tally.while_saving) / max(kills - tally.kills, 1)
        number = kill(process, run, rng, in_save, longest)
        if number is None:
            break  # it reached its end, or failed
        tally.signals[number.name] = tally.signals.get(number.name, 0) + 1
        tally.while_saving += saving(run)
        tally.before_first_checkpoint += not steps_of(run)
        say(f"{number.name}{' while saving' if saving(run) else ''}: newest checkpoint {(steps_of(run) or ['none'])[-1]}")
    if go_on(folder, *flags).wait():
        raise RuntimeError(f"the run could not be finished: {(folder / 'log').read_text()[-2000:]}")
    return tally


def compare(whole: Path, cut: Path, step: int, every: int = 5) -> list[str]:
    """Names what differs between two runs: tensors of the checkpoint of `step`, and scalars, which both logged after `every` steps."""
    a, b = tensors(whole, step), tensors(cut, step)
    different = [
        f"checkpoint: {name}" for name in a.keys() | b.keys() if name not in a or name not in b or not np.array_equal(a[name], b[name])
    ]
    a, b = scalars(whole), scalars(cut)
    for tag in a.keys() | b.keys():
        steps, values = zip(*b.get(tag, [(0, 0)]), strict=True)
        if list(steps) != sorted(set(steps)):
            different.append(f"TensorBoard: {tag} goes back")
        if [(s, v) for s, v in a.get(tag, []) if s % every == 0] != [(s, v) for s, v in zip(steps, values, strict=True) if s % every == 0]:
            different.append(f"TensorBoard: {tag}")
    return different


def tensors(run: Path, step: int) -> dict[str, np.ndarray]:
    """All that a checkpoint holds, by name."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(run / f"model.ckpt-{step}"))
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map() if not n.startswith("_CHECKPOINTABLE")}


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """All scalars that TensorBoard shows of a run: tag → (step, value)."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator  # what TensorBoard itself uses

    events = EventAccumulator(str(run), {"tensors": 0}).Reload()
    tags = [tag for tag in events.Tags()["tensors"] if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"]
    return {tag: [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)] for tag in tags}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--while_saving", type=int, default=8, help="how many of them in the middle of a save, at least")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--precision", default="float32", help="number type of the run's arithmetic")
    parser.add_argument("--longest", type=float, default=20, help="seconds until a random kill comes, at most; a start takes about ten")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    sys.path.insert(0, str(PROJECT))
    from conftest import draw, write_records

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [
            write_records(folder / f"{domain}.tfrecords", [draw(i) for i in seeds])
            for domain, seeds in (("X", range(7)), ("Y", range(9, 14)))
        ]
        flags = ["--X", files[0], "--Y", files[1], *FLAGS, "--max_steps", args.steps, "--n_epochs", args.steps]
        flags += ["--precision", args.precision]
        begin = time.monotonic()
        if train(folder, *flags, "--run_name", "whole").wait():
            raise RuntimeError((folder / "log").read_text())
        print(f"undisturbed: {args.steps} steps in {time.monotonic() - begin:.0f} s", flush=True)
        tally = disturb(folder, flags, args.kills, args.while_saving, args.longest, args.seed, say=lambda text: print(text, flush=True))
        differences = compare(folder / "checkpoints" / "whole", folder / "checkpoints" / "cut", args.steps)
    print(f"{tally.kills} kills ({', '.join(f'{n} {name}' for name, n in tally.signals.items())}), {tally.while_saving} while saving,")
    print(f"{tally.before_first_checkpoint} before the first checkpoint: {len(differences)} differences from the undisturbed run")
    print("\n".join(differences))
    return bool(differences) or tally.kills < args.kills or tally.while_saving < args.while_saving


if __name__ == "__main__":
    sys.exit(main())
