"""
Work spread over processes: what Python computes under its one lock uses every core this way.

Hides: worker processes, their start and their end.
Keeps: results come in order; little work is done here, without any process; a worker that dies costs time and nothing
else, since what it had is done again here; no worker outlives this process, not even when this one is killed.
"""

import gc
import logging
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_LOG = logging.getLogger("classifier")
AHEAD = 3  # items per process that are under way or wait, so that none is idle


class Processes:
    """
    A `map` that starts processes when there is enough to do, and ends them when it is done.

    Args:
        count: processes at most; with one or none everything is done here.
        min_items: so many items must be there before starting processes pays.
    """

    def __init__(self, count: int, min_items: int) -> None:
        self._count = count
        self._min_items = min_items

    def __call__(self, function: Callable[[_In], _Out], items: Iterable[_In], /) -> Iterator[_Out]:
        """Yield *function* of each of *items*, in order."""
        waiting = iter(items)
        first = list(islice(waiting, self._min_items)) if self._count > 1 else []
        waiting = chain(first, waiting)
        underway: deque[_In] = deque()
        if self._count > 1 and len(first) == self._min_items:
            yield from self._in_processes(function, waiting, underway)
        yield from map(function, chain(underway, waiting))

    def _in_processes(
        self, function: Callable[[_In], _Out], waiting: Iterator[_In], underway: deque[_In]
    ) -> Iterator[_Out]:
        """Do the work in processes; when one dies, end early, with what is not done in *underway*."""
        futures: deque[Future[_Out]] = deque()
        # Fresh interpreters: this process has threads, and a fork would copy their locks in whatever state they are.
        # The function goes there as bytes: made once, and read by each in one go before it imports anything for them.
        start_with = (pickle.dumps(function, pickle.HIGHEST_PROTOCOL),)
        with ProcessPoolExecutor(self._count, get_context("spawn"), _start, start_with) as pool:
            try:
                for item in waiting:
                    underway.append(item)
                    futures.append(pool.submit(_call, item))
                    if len(futures) == AHEAD * self._count:
                        yield self._next(futures, underway)
                while futures:
                    yield self._next(futures, underway)
            except BrokenProcessPool:
                _LOG.warning("a worker process died; what it had to do is done in the main process")

    @staticmethod
    def _next(futures: deque["Future[_Out]"], underway: deque[_In]) -> _Out:
        result = futures[0].result()
        futures.popleft()
        underway.popleft()
        return result


_function: Callable[[Any], Any]  # of a worker process


def _start(pickled: bytes) -> None:
    """Prepare a worker process."""
    global _function  # noqa: PLW0603 - a worker has one job, handed over once and not with every item
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the main process decides when to end
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _function = pickle.loads(pickled)  # noqa: S301 - from the process that started this one
    gc.freeze()  # what stays for ever need not be looked through again and again


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(item: Any) -> Any:  # noqa: ANN401 - whatever the function takes and returns
    return _function(item)
