"""What replicas do together, on two logical devices of the CPU, and that it is nothing on one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from system.replicas import average_statistics, gather, mean, on_replicas, own_rows, replicas, state, update
from system.workers import connect


@pytest.fixture(scope="module")
def two() -> tf.distribute.Strategy:
    strategy = connect("mirrored").strategy
    assert strategy.num_replicas_in_sync == 2  # conftest.py splits the CPU
    return strategy


def each(strategy: tf.distribute.Strategy, *values) -> object:
    """A value for each replica."""
    return strategy.experimental_distribute_values_from_function(lambda replica: tf.constant(values[replica.replica_id_in_sync_group]))


def of_both(strategy: tf.distribute.Strategy, values) -> list:
    return [part.numpy().tolist() for part in strategy.experimental_local_results(values)]


def test_on_one_device_nothing_is_done():
    rows = tf.constant([[1.0], [2.0]])
    assert replicas() == 1 and mean(rows) is rows and gather(rows) is rows and own_rows(rows) is rows
    assert on_replicas(lambda x, y: {"sum": x + y}, 3, 4) == {"sum": 7}


def test_a_mean_is_that_of_all_replicas(two):
    found = two.run(lambda values: mean({"a": values, "b": 2 * values}), (each(two, 1.0, 4.0),))
    assert of_both(two, found["a"]) == [2.5, 2.5] and of_both(two, found["b"]) == [5, 5]


def test_rows_are_gathered_in_order_and_each_has_its_own(two):
    rows = each(two, [[1], [2]], [[3], [4]])
    assert of_both(two, two.run(gather, (rows,))) == [[[1], [2], [3], [4]]] * 2
    assert of_both(two, two.run(lambda rows: own_rows(10 * gather(rows)), (rows,))) == [[[10], [20]], [[30], [40]]]


def test_a_step_gets_each_replicas_rows_and_returns_what_all_have(two):
    with two.scope():
        found = on_replicas(lambda x, y: {"x": mean(x), "y": mean(y)}, each(two, 1.0, 3.0), each(two, 10.0, 30.0))
    assert {name: float(value) for name, value in found.items()} == {"x": 2, "y": 20}


def test_a_state_is_changed_by_each_replica_and_read_as_the_first_ones(two):
    with two.scope():
        kept = state(tf.constant(0.0), "kept")
    two.run(lambda value: kept.assign_add(value), (each(two, 1.0, 5.0),))
    assert kept.numpy() == 1


def test_an_update_takes_the_variables_as_each_replica_has_them(two):
    one, other = tf.Variable(2.0), tf.Variable(5.0)
    update(one, lambda own, other: 10 * own + other, other)
    assert float(one) == 25
    with two.scope():
        ours, theirs = tf.Variable(2.0), tf.Variable(5.0)
        update(ours, lambda own, other: 10 * own + other, theirs)
    assert of_both(two, ours) == [25, 25]


def test_statistics_of_batch_norm_become_those_of_all_replicas(two):
    with two.scope():
        norm = keras.layers.BatchNormalization(momentum=0.0)
        norm.build((None, 1))

    def step(rows):
        norm(rows, training=True)
        average_statistics([norm])

    two.run(step, (each(two, [[1.0], [3.0]], [[5.0], [11.0]]),))
    assert of_both(two, norm.moving_mean.value) == [[5.0], [5.0]]
    np.testing.assert_allclose(of_both(two, norm.moving_variance.value), [[5.0], [5.0]], rtol=1e-5)
