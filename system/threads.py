"""Work done on threads ahead of time, its results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Yields each item with the result of its work, done on threads ahead of time; only a few results are held at once."""
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        begun = ((item, pool.submit(work, item)) for item in items)  # as they are asked for
        try:
            pending = deque(islice(begun, 4 * cores))
            while pending:
                item, future = pending.popleft()
                pending.extend(islice(begun, 1))
                yield item, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
