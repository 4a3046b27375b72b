"""Work done on threads: its order, how far it looks ahead, and its errors."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from system import threads


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def test_in_order_keeps_the_order_whatever_is_done_first(two_cores):
    second_done = threading.Event()

    def work(item):
        if item == 0:
            assert second_done.wait(60)
        if item == 1:
            second_done.set()
        return item * 10

    assert list(threads.in_order(work, range(50))) == [(i, 10 * i) for i in range(50)]


def test_in_order_does_the_work_of_each_item_once(two_cores):
    done = []
    assert [item for item, _ in threads.in_order(done.append, range(50))] == list(range(50)) == sorted(done)


def test_in_order_leaves_what_is_not_begun_when_nobody_asks_any_more(two_cores, monkeypatch):
    begun, closing = [], threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, **options) -> None:
            super().shutdown(wait=False, **options)
            closing.set()
            super().shutdown(wait)

    def work(item):
        begun.append(item)
        assert item == 0 or closing.wait(60)

    monkeypatch.setattr(threads, "ThreadPoolExecutor", Pool)
    results = threads.in_order(work, range(50))
    assert next(results) == (0, None)
    results.close()
    assert set(begun) <= {0, 1, 2}  # two threads


def test_in_order_looks_only_a_little_ahead(two_cores):
    pulled = 0

    def endless():
        nonlocal pulled
        while True:
            yield pulled
            pulled += 1

    results = threads.in_order(str, endless())
    assert [next(results) for _ in range(3)] == [(0, "0"), (1, "1"), (2, "2")]
    assert pulled <= 3 + 8
    results.close()


@pytest.mark.parametrize("count", [4, 100])  # fewer and more than are held
def test_in_order_passes_an_error_on_in_its_place(two_cores, count):
    results = threads.in_order(lambda item: 1 // (3 - item), range(count))
    assert [next(results) for _ in range(3)] == [(0, 0), (1, 0), (2, 1)]
    with pytest.raises(ZeroDivisionError):
        next(results)
