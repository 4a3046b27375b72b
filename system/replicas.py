"""What the replicas of a step do together: every one holds all variables, and makes the same changes to them.

Keras' optimizers sum the gradients, and whatever else a step keeps is made of the whole batch, by `mean` and `gather`. So the numbers do
not depend on how many replicas there are, beyond rounding. On one device all of this does nothing.
"""

from collections.abc import Callable, Iterable

import tensorflow as tf


def replicas() -> int:
    """How many replicas make a step together, on all workers."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def on_replicas(step: Callable[..., dict[str, tf.Tensor]], *batches) -> dict[str, tf.Tensor]:
    """Calls `step` on each replica with its rows of the batches. Returns its scalars, which are the same on all."""
    if replicas() == 1:
        return step(*batches)
    strategy = tf.distribute.get_strategy()
    return {name: strategy.experimental_local_results(values)[0] for name, values in strategy.run(step, batches).items()}


def mean(values):
    """The mean over the replicas, on each of them; of a tensor or a structure of them."""
    if replicas() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, values)


def gather(rows: tf.Tensor) -> tf.Tensor:
    """The replicas' rows (B / replicas, …) → the whole batch (B, …), on each of them."""
    if replicas() == 1:
        return rows
    batch = tf.distribute.get_replica_context().all_gather(tf.identity(rows), axis=0)  # of an argument it does not know the device
    return tf.ensure_shape(batch, (rows.shape[0] * replicas(), *rows.shape[1:]))


def own_rows(batch: tf.Tensor) -> tf.Tensor:
    """What `gather` had of this replica: (B, …) → (B / replicas, …)."""
    if replicas() == 1:
        return batch
    count = batch.shape[0] // replicas()
    first = tf.distribute.get_replica_context().replica_id_in_sync_group * count
    return tf.ensure_shape(batch[first : first + count], (count, *batch.shape[1:]))


def own_numbers(count: int) -> tf.Tensor:
    """The numbers that a replica's `count` rows have in the whole batch, int32 (count,)."""
    first = 0 if replicas() == 1 else tf.distribute.get_replica_context().replica_id_in_sync_group * count
    return first + tf.range(count)


def average_statistics(networks: Iterable[tf.Module]) -> None:
    """Batch norm normalises each replica's pictures among themselves; the averages that it keeps become those of all replicas."""
    if replicas() > 1:
        for average in (weight for network in networks for weight in network.non_trainable_weights):
            average.assign(mean(tf.convert_to_tensor(average.value)))


def state(value: tf.Tensor, name: str) -> tf.Variable:
    """A variable that each replica changes by itself, all in the same way; a checkpoint holds the first one's."""
    kind = {"synchronization": tf.VariableSynchronization.ON_READ, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
    return tf.Variable(value, trainable=False, name=name, **kind)


def update(variable: tf.Variable, value: Callable[..., tf.Tensor], *variables: tf.Variable) -> None:
    """Gives a variable, outside of replicas, the `value` of itself and of others as each replica has them."""
    if replicas() == 1:  # at once: all else takes long to trace
        variable.assign(value(variable, *variables))
    else:
        tf.distribute.get_strategy().extended.update(variable, lambda own, *others: own.assign(value(own, *others)), variables)
