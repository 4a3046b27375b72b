"""Two real workers on this machine, one of which is killed: how long the other takes to notice, and what comes out after a new start.

    python tests/cluster.py

The end of every run must be bit for bit that of one that nobody disturbed. Prints a Markdown table.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).parent.parent
FLAGS = ["--image_size", "32", "--ngf", "2", "--ndf", "2", "--n_res_blocks", "1", "--pool_size", "2", "--batch_size", "2"]
FLAGS += ["--ema", "0.9", "--max_steps", "160", "--save_every", "20", "--log_every", "20"]
PATIENCE = 180  # seconds until a process counts as hanging


class Cluster:
    """Workers that run train.py in `folder`; each writes its output to a file of its own."""

    def __init__(self, folder: Path, *flags: object, workers: int = 2):
        sockets = [socket.create_server(("localhost", 0)) for _ in range(workers)]
        addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
        for s in sockets:
            s.close()
        self.logs = [folder / f"worker-{i}.log" for i in range(workers)]
        self.processes = []
        for i, log in enumerate(self.logs):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
            command = [sys.executable, str(PROJECT / "train.py"), *map(str, flags)]
            with open(log, "w") as file:
                env = {**os.environ, "TF_CONFIG": json.dumps(config)}
                self.processes.append(subprocess.Popen(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file))

    def wait(self) -> list[int]:
        """Returns the exit statuses. Raises `subprocess.TimeoutExpired`."""
        try:
            return [process.wait(PATIENCE) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def said(self, worker: int) -> str:
        return self.logs[worker].read_text()


def run_of(folder: Path) -> Path:
    return folder / "checkpoints" / "run"


def wait_for_checkpoints(folder: Path, n: int) -> None:
    """Waits until the run has `n` complete checkpoints. Raises `TimeoutError`."""
    end = time.monotonic() + PATIENCE
    while len(list(run_of(folder).glob("model.ckpt-*.index"))) < n:
        if time.monotonic() > end:
            raise TimeoutError(f"{folder}: no {n} checkpoints in {PATIENCE} s")
        time.sleep(0.05)


def state(folder: Path) -> dict[str, np.ndarray]:
    """All that the newest checkpoint holds."""
    import tensorflow as tf

    checkpoint = tf.train.load_checkpoint(str(run_of(folder)))
    return {n: checkpoint.get_tensor(n) for n in checkpoint.get_variable_to_shape_map() if "OBJECT_GRAPH" not in n}


def disturb(folder: Path, data: list, victim: int, number: int) -> tuple[list[int], float, str]:
    """Begins a run, sends a worker a signal after the second checkpoint; returns statuses, seconds to the end, the other's last line."""
    cluster = Cluster(folder, *data, *FLAGS, "--run_name", "run")
    wait_for_checkpoints(folder, 2)
    began = time.monotonic()
    cluster.processes[victim].send_signal(number)
    statuses = cluster.wait()
    return statuses, time.monotonic() - began, cluster.said(1 - victim).strip().splitlines()[-1]


def main() -> None:
    sys.path[:0] = [str(PROJECT), str(Path(__file__).parent)]
    from conftest import draw, write_records

    print(
        "| signal | to | exit statuses | seconds until both have ended | after a new start |\n| --- | --- | --- | --- | --- |", flush=True
    )
    with tempfile.TemporaryDirectory() as work:
        data = []
        for name, seeds in (("X", range(5)), ("Y", range(9, 12))):
            data += [f"--{name}", write_records(Path(work, f"{name}.tfrecords"), [draw(seed) for seed in seeds])]
        undisturbed = Path(work, "undisturbed")
        undisturbed.mkdir()
        statuses = Cluster(undisturbed, *data, *FLAGS, "--run_name", "run").wait()
        assert statuses == [0, 0], statuses
        expected = state(undisturbed)
        for number in (signal.SIGKILL, signal.SIGTERM):
            for victim in (1, 0):
                folder = Path(work, f"{number.name}-{victim}")
                folder.mkdir()
                statuses, seconds, last = disturb(folder, data, victim, number)
                again = Cluster(folder, "--load_model", "run").wait()
                found = state(folder)
                same = found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)
                print(
                    f"| {number.name} | worker {victim} | {statuses} | {seconds:.1f} | {again}, {'equal' if same else 'DIFFERENT'} |",
                    flush=True,
                )
                print(f"<!-- {last} -->", flush=True)


if __name__ == "__main__":
    main()
