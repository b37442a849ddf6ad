"""
A Dask cluster as the place where `joblib.Parallel` does its work.

Hides: the connection, and how a cluster says that work is lost.
Keeps: whatever goes wrong on the cluster ends in an error, never in waiting for ever.
"""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any

from joblib import parallel_config

from classifier.errors import ClusterError, MissingExtraError

CONNECT_S = 10


@contextmanager
def dask_cluster(address: str, *, connect_s: float = CONNECT_S) -> Iterator[None]:
    """
    Let `joblib.Parallel` inside this context do its work on a Dask cluster.

    A worker that dies has its work done by another. Workers need this package, its version, and its extra ``dask``.

    Args:
        address: of the scheduler, e.g. ``tcp://10.0.0.1:8786``.
        connect_s: seconds to wait for the scheduler, and then for a first worker.

    Raises:
        ClusterError: the scheduler does not answer, there is no worker, or work was lost for good.
        MissingExtraError: the extra ``dask`` is not installed.
    """
    try:
        from distributed import Client, KilledWorker  # noqa: PLC0415 - only those who have a cluster have it
    except ModuleNotFoundError as error:
        package = "distributed"
        raise MissingExtraError(package, "dask") from error
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        client: Any = Client(address, timeout=connect_s, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(address, f"no scheduler answers: {error}; start one with 'dask scheduler'") from error
    try:
        with client, parallel_config(backend=_backend(client, connect_s)):
            if not client.ncores():
                client.wait_for_workers(1, timeout=connect_s)
            yield
    except KilledWorker as error:
        raise ClusterError(
            address, f"several workers died at the same work, perhaps for want of memory: {error}"
        ) from error
    except CancelledError as error:
        raise ClusterError(address, "the scheduler, or data that only a dead worker had, is lost; try again") from error
    except TimeoutError as error:
        raise ClusterError(address, "the cluster has no workers; start some with 'dask worker'") from error


def _backend(client: Any, connect_s: float) -> Any:  # noqa: ANN401 - neither package has types
    from joblib._dask import DaskDistributedBackend  # noqa: PLC0415 - imports distributed

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        """
        joblib's own, which tells nobody when a task ends without a result: `Parallel` would wait for it for ever.

        `joblib.parallel.BatchCompletionCallBack` asks of a backend to be called "in case of success as well as in case
        of failure".
        """

        def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:  # noqa: ANN401
            future = super().submit(func, callback)

            def tell(done: "Future[Any]") -> None:
                error = done.exception()
                if error is not None and callback is not None:
                    callback(error)

            future.add_done_callback(tell)
            return future

    return Backend(client=client, wait_for_workers_timeout=connect_s)
