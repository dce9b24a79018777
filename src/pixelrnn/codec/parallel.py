"""Chunks know nothing of each other, so several can be coded at a time."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from pixelrnn.kernels.choice import limited

__all__ = ["side_by_side"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(run: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Call a function for each item, as many at a time as PyTorch has threads.

    A scan that is decoded meets all its threads at each position, so it is better to have a thread for each of several
    scans. Results are as many ahead of what is taken as there are threads.

    Args:
        run: what to call, in threads.
        items: in order.

    Yields:
        What it returns, in order.
    """
    threads = torch.get_num_threads()
    workers = max(1, min(threads, len(items)))

    def limited_run(item: Item) -> Result:
        with limited(max(1, threads // workers)):
            return run(item)

    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(limited_run, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
