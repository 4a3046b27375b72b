import numpy as np
import pytest
import tensorflow as tf

from utils import ImagePool, convert2float, convert2int


def test_every_value_survives_the_way_to_float_and_back():
    values = np.arange(256, dtype=np.uint8)
    floats = convert2float(values).numpy()
    assert floats.dtype == np.float32
    assert (floats[0], floats[-1]) == (-1, 1)
    assert np.array_equal(convert2int(floats), values)


def test_what_lies_outside_is_clipped_not_wrapped():
    assert convert2int(tf.constant([-1.5, 1.2, 7.0])).numpy().tolist() == [0, 255, 255]


def picture(value: int) -> tf.Tensor:
    return tf.fill((1, 2, 2, 3), float(value))


def replay(pool: ImagePool, first: int, last: int) -> list[int]:
    """Feeds one picture a step, painted with the step's number; returns the numbers that come back."""
    query = tf.function(pool.query, autograph=False)
    return [int(query(picture(step), tf.constant(step, tf.int64))[0, 0, 0, 0]) for step in range(first, last)]


def test_a_filling_pool_gives_each_picture_back_and_keeps_it():
    pool = ImagePool(5, (2, 2, 3))
    assert replay(pool, 0, 5) == [0, 1, 2, 3, 4]
    assert pool.pictures[:, 0, 0, 0].numpy().tolist() == [0, 1, 2, 3, 4]


def test_a_full_pool_swaps_half_of_the_time_and_loses_nothing():
    pool = ImagePool(5, (2, 2, 3), seed=1)
    returned = replay(pool, 0, 600)
    swapped = [step for step, value in enumerate(returned) if value != step]
    assert 250 < len(swapped) < 345
    assert sorted(returned[5:] + pool.pictures[:, 0, 0, 0].numpy().tolist()) == list(range(600))
    assert pool.count == 5
    ages = {step - value for step, value in enumerate(returned)}
    assert max(ages) > 10  # some pictures stay long


def test_every_slot_is_swapped():
    pool = ImagePool(5, (2, 2, 3))
    replay(pool, 0, 100)
    assert (pool.pictures[:, 0, 0, 0].numpy() > 4).all()


def test_a_batch_is_as_its_pictures_one_after_another():
    """Also inside a batch each picture fills or swaps by itself: the first batch of 3 fills 2 places, then swaps."""
    pool = ImagePool(2, (1, 1, 3))
    kept, query = set(), tf.function(pool.query, autograph=False)
    for step in range(40):
        batch = tf.reshape(tf.range(3.0) + 3 * step, (3, 1, 1, 1)) * tf.ones((1, 1, 1, 3))
        kept |= {3 * step, 3 * step + 1, 3 * step + 2}
        returned = [int(v) for v in query(batch, tf.constant(step, tf.int64))[:, 0, 0, 0]]
        if step == 0:
            assert returned[:2] == [0, 1]
            kept |= {0, 1}
        assert set(returned) <= kept
        if step:
            inside = [int(v) for v in pool.pictures[:, 0, 0, 0]]
            assert len(set(inside)) == 2  # no picture twice


def test_the_pictures_of_a_batch_draw_one_by_one():
    pool, swapped, slots = ImagePool(20, (1, 1, 3)), set(), set()
    query = tf.function(pool.query, autograph=False)
    for step in range(30):
        batch = tf.reshape(tf.range(4.0) + 4 * step, (4, 1, 1, 1)) * tf.ones((1, 1, 1, 3))
        before = pool.pictures[:, 0, 0, 0].numpy()
        returned = query(batch, tf.constant(step, tf.int64))[:, 0, 0, 0].numpy()
        if step >= 5:  # it is full
            swapped.add(tuple((returned != batch[:, 0, 0, 0].numpy()).tolist()))
            slots.add(tuple(np.flatnonzero(before != pool.pictures[:, 0, 0, 0].numpy()).tolist()))
    assert len(swapped) > 8 and max(map(len, slots)) > 2


def test_the_first_draws_are_these():
    """So that a run that was begun before goes on alike."""
    pool = ImagePool(3, (2, 2, 3), 7)
    assert replay(pool, 0, 16) == [0, 1, 2, 3, 4, 2, 6, 0, 8, 9, 5, 11, 12, 1, 14, 15]


def test_what_happens_is_a_function_of_seed_and_step():
    one, same, other = ImagePool(3, (2, 2, 3), 7), ImagePool(3, (2, 2, 3), 7), ImagePool(3, (2, 2, 3), 8)
    first = replay(one, 0, 60)
    assert replay(same, 0, 60) == first
    assert replay(other, 0, 60) != first


def test_size_0_gives_pictures_back():
    assert replay(ImagePool(0, (2, 2, 3)), 0, 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("jit", [False, True])
def test_the_pool_works_inside_a_compiled_step(jit):
    pool, plain = ImagePool(3, (2, 2, 3)), ImagePool(3, (2, 2, 3))
    query = tf.function(pool.query, jit_compile=jit)
    for step in range(12):
        expected = plain.query(picture(step), tf.constant(step, tf.int64))
        assert np.array_equal(query(picture(step), tf.constant(step, tf.int64)), expected)
