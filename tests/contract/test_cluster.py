"""`joblib.Parallel` on a real Dask cluster: the work is done there, and whatever goes wrong ends in an error."""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from cluster import Cluster
from joblib import Parallel, delayed

from classifier import ClusterError, MissingExtraError, dask_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Return a cluster of two worker processes."""
    with Cluster() as running:
        yield running


def test_work_is_done_by_the_workers(cluster: Cluster) -> None:
    """And only inside the context."""
    with dask_cluster(cluster.address):
        inside = set(Parallel(n_jobs=-1)(delayed(os.getpid)() for _ in range(8)))
    outside = set(Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2)))

    assert inside <= set(cluster.pids)
    assert outside == {os.getpid()}


def test_an_error_of_the_work_comes_back_as_it_is(cluster: Cluster) -> None:
    """Ours and others'."""
    with pytest.raises(ZeroDivisionError), dask_cluster(cluster.address):
        Parallel(n_jobs=-1)(delayed(divmod)(1, 0) for _ in range(2))


def test_work_that_kills_every_worker_is_given_up() -> None:
    """It is not waited for for ever, as joblib's own backend would."""
    with (
        Cluster() as doomed,
        pytest.raises(ClusterError, match="several workers died at the same work, perhaps for want of memory"),
        dask_cluster(doomed.address),
    ):
        Parallel(n_jobs=-1)(delayed(os._exit)(1) for _ in range(1))


def test_a_scheduler_that_dies_is_an_error() -> None:
    """In the middle of the work."""
    with (
        Cluster() as doomed,
        pytest.raises(ClusterError, match="is lost; try again"),
        dask_cluster(doomed.address, connect_s=30),
    ):
        _sleep_until_killed(doomed)


def _sleep_until_killed(cluster: Cluster) -> None:
    threading.Timer(1, cluster.kill).start()
    Parallel(n_jobs=-1)(delayed(time.sleep)(60) for _ in range(2))


def test_a_cluster_without_workers_is_an_error() -> None:
    """After a wait in which some may come."""
    with (
        Cluster(n_workers=0) as empty,
        pytest.raises(ClusterError, match="the cluster has no workers; start some with 'dask worker'"),
        dask_cluster(empty.address, connect_s=0.5),
    ):
        pass


def test_no_scheduler_is_an_error() -> None:
    """Nobody at the port, or no address at all."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for address in (f"tcp://127.0.0.1:{port}", "nonsense://x"):
        with (
            pytest.raises(ClusterError, match=r"no scheduler answers: .*; start one with 'dask scheduler'"),
            dask_cluster(address, connect_s=0.5),
        ):
            pass


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody has to look for it."""
    monkeypatch.setitem(sys.modules, "distributed", None)

    with (
        pytest.raises(MissingExtraError, match=r"distributed is needed .*; pip install 'policy-classifier\[dask\]'"),
        dask_cluster("tcp://127.0.0.1:1"),
    ):
        pass
