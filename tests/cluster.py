"""A real Dask cluster of two worker processes on loopback, in a process of its own."""

import json
import subprocess
import sys
from types import TracebackType
from typing import Self

N_WORKERS = 2


class Cluster:
    """
    Runs from entering the context to leaving it; a worker that dies is started again.

    Attributes:
        address: of the scheduler.
        pids: of the worker processes at the start.
    """

    def __init__(self, n_workers: int = N_WORKERS) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(n_workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        started = json.loads(self._process.stdout.readline())
        self.address: str = started["address"]
        self.pids: list[int] = started["pids"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def kill(self) -> None:
        """Take away the scheduler and all else at once."""
        self._process.kill()


def _serve(n_workers: int) -> None:
    """Start a cluster, say where it is, and keep it until standard input ends."""
    from distributed import LocalCluster  # noqa: PLC0415 - only this process needs it

    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=n_workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        pids = [worker.pid for worker in cluster.workers.values()]
        sys.stdout.write(json.dumps({"address": cluster.scheduler_address, "pids": pids}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
