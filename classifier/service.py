"""
The daemon's clockwork: APScheduler calls the jobs, nothing more.

Keeps: no job ever runs twice at the same time, a job that fails is logged and called again at its next time, and a
stop waits for what is running. What was found and sent is in the ledger; the scheduler remembers nothing.
"""

import datetime as dt
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

_LOG = logging.getLogger("classifier")
CHECK_CLOCK_S = 1.0
DRAIN_S = 30.0  # running work is waited for so long at the end; what is cut off is found or sent again


@dataclass(frozen=True, slots=True)
class Job:
    """Something to call every so many seconds."""

    run: Callable[[], object]
    every_s: float


def run_service(
    jobs: Mapping[str, Job], stop: threading.Event, started_at: dt.datetime, *, drain_s: float = DRAIN_S
) -> bool:
    """
    Call the jobs, first at *started_at*, until *stop* is set or SIGTERM or SIGINT comes; then let running jobs end and
    return.

    False when one was still running after *drain_s* seconds: its thread is left behind, and the interpreter would wait
    for it at exit. More signals while waiting change nothing.

    Must be called from the main thread. Jobs should look at *stop* between two pieces of work.
    """
    logging.getLogger("apscheduler").setLevel(
        logging.ERROR
    )  # it warns whenever a job is still running at its next time: that is normal
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(len(jobs))},  # one thread per job: a hanging one delays no other
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )
    for name, job in jobs.items():
        scheduler.add_job(
            _guarded, "interval", args=(name, job.run), seconds=job.every_s, id=name, next_run_time=started_at
        )
    previous = {
        number: signal.signal(number, lambda _number, _frame: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    scheduler.start()
    try:
        ahead = time.time() - time.monotonic()
        while not stop.wait(CHECK_CLOCK_S):
            if time.time() - time.monotonic() < ahead - CHECK_CLOCK_S:  # the wall clock was set back
                now = dt.datetime.fromtimestamp(time.time(), dt.UTC)
                for job in scheduler.get_jobs():  # their next times are as far ahead as the clock was
                    job.modify(next_run_time=now)
            ahead = time.time() - time.monotonic()
        _LOG.info("stopping: waiting for running work")
    finally:
        stop.set()
        drain = threading.Thread(target=scheduler.shutdown, daemon=True)
        drain.start()
        drain.join(drain_s)
        for number, handler in previous.items():
            signal.signal(number, handler)
    if drain.is_alive():
        _LOG.error("work is still running after %g s: leaving it", drain_s)
    return not drain.is_alive()


def _guarded(name: str, run: Callable[[], object]) -> None:
    """Call *run*; whatever it raises ends this call and nothing else."""
    try:
        run()
    except BaseException as error:  # noqa: BLE001 - no job ends the daemon; the next tick tries again
        _LOG.error("job %s failed: %s: %s", name, type(error).__name__, error)
