"""One device, all GPUs of a machine, or several machines: the strategies of tf.distribute, and what workers say to one another."""

import contextlib
import functools
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator

import tensorflow as tf
from tensorflow import errors

from system import devices
from system.cli import InputError, Stopped
from system.replicas import gather

# A worker says 0 when all is well, the number of a signal that it has had, or one of these:
TROUBLE = 1000  # it cannot go on, and all should stop
GONE = 1001  # it has stopped, and nobody should wait for it
NUMBER = 2**32  # that plus a number of its own, which is none of the above
# What TensorFlow raises when another worker is gone:
LOST = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.InternalError, errors.DeadlineExceededError)


class Workers:
    """The processes that train together, of which this is number `index`; mostly there is one. The first is the chief: it keeps the run."""

    def __init__(self, strategy: tf.distribute.Strategy, index: int = 0, count: int = 1):
        self.strategy, self.index, self.count, self.is_chief = strategy, index, count, index == 0
        self.replicas_here = strategy.num_replicas_in_sync // count
        self.alone = False
        self._gathered = tf.function(lambda values: strategy.run(gather, (values,)))

    def where(self) -> str:
        """The devices that train, in words: "CPU", or "8 × NVIDIA H100, 2 workers"."""
        count, device = self.strategy.num_replicas_in_sync, devices.device_name()
        words = device if count == 1 else f"{count} × {device}"
        return words if self.count == 1 else f"{words}, {self.count} workers"

    def rows(self, batch_size: int) -> tuple[int, int]:
        """The rows of each batch that this worker reads: the first, and how many. Raises `InputError` if replicas cannot share them."""
        n = self.strategy.num_replicas_in_sync
        if batch_size % n:
            remedy = " or ".join(str(size) for size in (batch_size // n * n, (batch_size // n + 1) * n) if size)
            raise InputError(f"--batch_size {batch_size}: is that of all {n} replicas, which cannot share it evenly; use {remedy}")
        return self.index * (batch_size // self.count), batch_size // self.count

    def spread(self, rows: tf.Tensor):
        """This worker's rows of a batch → a part for each of its replicas."""
        if self.strategy.num_replicas_in_sync == 1:
            return rows
        parts = tf.split(rows, self.replicas_here)
        distribute = self.strategy.experimental_distribute_values_from_function
        return distribute(lambda replica: parts[replica.replica_id_in_sync_group % self.replicas_here])

    def _gather(self, numbers: list[int]) -> list[list[int]]:
        """What each worker gives, in their order, and all as many."""
        own = self.strategy.experimental_distribute_values_from_function(lambda replica: tf.constant([numbers], tf.int64))
        return self.strategy.experimental_local_results(self._gathered(own))[0].numpy()[:: self.replicas_here].tolist()

    def hear(self, word: int = 0) -> list[int]:
        """Says `word` to all workers and returns what each of them says, in their order. Waits for all."""
        if self.count == 1:
            return [word]
        if self.alone:
            return [0] * self.count
        heard = [said for (said,) in self._gather([word])]
        self.alone = GONE in heard
        return heard

    @contextlib.contextmanager
    def all_or_none(self) -> Iterator[None]:
        """If this block fails on one worker, it fails on all: there with its error, elsewhere with `Stopped`, which names the worker."""
        try:
            yield
        except BaseException:
            self.hear(GONE)
            raise
        failed = [index for index, word in enumerate(self.hear()) if word]
        if failed:
            raise Stopped(f"worker {failed[0]} cannot start; it says why")

    @contextlib.contextmanager
    def to_the_end(self, lost: Callable[[], str]) -> Iterator[None]:
        """Workers end this block together, or `hear` of one that fails in it. Raises `Stopped`, with `lost()`, if one is gone."""
        try:
            yield
            self.hear()
        except LOST as e:
            if self.count == 1:
                raise
            raise Stopped(lost()) from e
        except Exception:
            self.hear(GONE)
            raise

    def exchange(self, text: str) -> list[str]:
        """Gives `text` to all workers and returns what each of them gives, in their order."""
        if self.count == 1:
            return [text]
        length = max(self.hear(NUMBER + len(text.encode()))) - NUMBER
        return [bytes(row).decode().rstrip() for row in self._gather(list(text.encode().ljust(length)))]

    def add_up(self, number: int) -> int:
        """The sum of the workers' numbers."""
        return sum(word - NUMBER for word in self.hear(NUMBER + number))

    def check_alike(self, what: str, value: str) -> None:
        """Raises `InputError`, on all workers, unless `value` is the same on all."""
        said = self.hear(NUMBER + zlib.crc32(value.encode()))
        odd = next((index for index, word in enumerate(said) if word != said[0]), None)
        if odd is not None:
            raise InputError(f"the {what} of worker {odd} are not those of worker 0; start all workers alike, on the same files")


def connect(strategy: str) -> Workers:
    """Opens the devices that `strategy`, one of `devices.STRATEGIES`, means. Several workers wait for one another. Raises `InputError`."""
    index, addresses = task(os.environ.get("TF_CONFIG"))
    if strategy == "multiworker" and not addresses:
        raise InputError("--strategy multiworker: TF_CONFIG is not set, which says who the workers are; scripts/train_multi.sh sets it")
    if strategy == "multiworker" or strategy == "auto" and len(addresses) > 1:
        print(f"worker {index} of {len(addresses)}, {addresses[index]}: waiting for the others", file=sys.stderr, flush=True)
        # It must be made before any device is opened.
        return Workers(devices.quiet_tensorflow(tf.distribute.MultiWorkerMirroredStrategy), index, len(addresses))
    devices.quiet_tensorflow()
    gpus = tf.config.list_logical_devices("GPU")
    if strategy == "mirrored" or strategy == "auto" and len(gpus) > 1:
        return Workers(_mirrored(tuple(device.name for device in gpus or tf.config.list_logical_devices("CPU"))))
    return Workers(tf.distribute.get_strategy())


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    # A second one for these devices would number its messages from the beginning, and take old ones for its own.
    return tf.distribute.MirroredStrategy(devices)


def task(tf_config: str | None) -> tuple[int, list[str]]:
    """What TF_CONFIG says: which worker this is, and the addresses of all; none without it. Raises `InputError`."""
    if not tf_config:
        return 0, []
    try:
        found = json.loads(tf_config)
        cluster, here = found["cluster"], found["task"]
        addresses = [*cluster.get("chief", []), *cluster.get("worker", [])]
        index = int(here["index"]) + (len(cluster.get("chief", [])) if here["type"] == "worker" else 0)
        if here["type"] not in ("chief", "worker") or not 0 <= index < len(addresses) or not all(isinstance(a, str) for a in addresses):
            raise ValueError(f"no worker {here['type']} {here['index']} in it")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
        raise InputError(f"TF_CONFIG: {e!r}; it should be like {example}; or unset it") from None
    return index, addresses
