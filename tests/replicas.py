"""Steps of a tiny model in float64, on whatever `workers.connect` finds: `python tests/replicas.py FILE` is a worker, by TF_CONFIG.

The chief writes what a checkpoint would hold, and the losses, to FILE (.npz).
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
BATCH, STEPS = 4, 20


def model(workers, **settings):
    import keras

    from model import CycleGAN
    from training.config import Config

    tiny = {"image_size": 32, "ngf": 1, "ndf": 1, "n_res_blocks": 0, "pool_size": 3, "ema": 0.9, "lambda_identity": 0.5}
    tiny["precision"] = "float32"
    keras.utils.set_random_seed(0)
    with workers.strategy.scope():
        return CycleGAN(Config(batch_size=BATCH, **{**tiny, **settings}), decay_start=STEPS // 2, total_steps=STEPS)


def batches(workers) -> Iterator[np.ndarray]:
    """This worker's rows of the batches of both domains, (2, rows, 32, 32, 3)."""
    first, count = workers.rows(BATCH)
    draw = np.random.default_rng(0)
    while True:
        yield draw.uniform(-1, 1, (2, BATCH, 32, 32, 3))[:, first : first + count]


def step(workers, model, batch: np.ndarray, traced: bool = True) -> list[float]:
    """One step; returns its losses. Steps that are not traced are slow, but the first is not."""
    import tensorflow as tf

    x, y = (workers.spread(tf.constant(pictures)) for pictures in batch)
    scalars = model.train_step(x, y) if traced else model._train_step(x, y)
    return [float(value) for name, value in sorted(scalars.items()) if name.startswith("loss/")]


def train(workers, steps: int, traced: bool = True) -> dict[str, np.ndarray]:
    """The losses of all steps, and every variable after them, by name."""
    trained, data = model(workers), batches(workers)
    losses = [step(workers, trained, next(data), traced) for _ in range(steps)]
    return {"losses": np.array(losses), **variables(trained)}


def variables(model) -> dict[str, np.ndarray]:
    """What a checkpoint of `model` holds, but for the running statistics, which are float32."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = tf.train.load_checkpoint(tf.train.Checkpoint(model=model).write(f"{folder}/checkpoint"))
        names = [name for name in checkpoint.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name and "health" not in name]
        return {name: checkpoint.get_tensor(name) for name in names}


def main() -> None:
    from system import devices

    devices.quiet_tensorflow(lambda: None)
    import keras

    from system.workers import connect

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    workers = connect("auto")
    found = train(workers, STEPS)
    if workers.is_chief:
        np.savez(sys.argv[1], **{name.replace("/", "|"): value for name, value in found.items()})
    with workers.to_the_end(lambda: "a worker is gone"):
        pass


if __name__ == "__main__":
    main()
