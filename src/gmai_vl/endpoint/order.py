"""Do a thing for many items in threads, the results in the order of the items, with few in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 4
"""Items under way or waiting to be taken, for each thread: a slow one holds the others up only after so many."""


def in_order(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield `function(item)` for every item, in order; what it raises is raised here, and no further item is begun.

    Then those under way are waited for; not so after Ctrl-C, or where the caller takes no more: the client's end does.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="endpoint")
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BaseException as error:
        pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
        raise
    pool.shutdown()
