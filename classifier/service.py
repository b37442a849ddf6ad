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

from classifier.logs import event

_LOG = logging.getLogger("classifier")
CHECK_CLOCK_S = 1.0
MAX_JOBS = 250  # threads are made when they are needed; there are at most 200 endpoints
DRAIN_S = 30.0  # running work is waited for so long at the end; what is cut off is found or sent again


@dataclass(frozen=True, slots=True)
class Job:
    """Something to call every so many seconds."""

    run: Callable[[], object]
    every_s: float


def run_service(
    jobs: Callable[[], Mapping[str, Job]],
    stop: threading.Event,
    started_at: dt.datetime,
    *,
    on_start: Callable[[], None] = lambda: None,
    on_hangup: Callable[[], None] = lambda: None,
    drain_s: float = DRAIN_S,
) -> bool:
    """
    Call the jobs, first at *started_at*, until *stop* is set or SIGTERM or SIGINT comes; then let running jobs end and
    return.

    False when one was still running after *drain_s* seconds: its thread is left behind, and the interpreter would wait
    for it at exit. More signals while waiting change nothing.

    Must be called from the main thread. Jobs should look at *stop* between two pieces of work.

    Args:
        jobs: what to call, by name; asked again and again, for jobs can come, go, and change how often they run.
        stop: ends the service when it is set.
        started_at: when each job is called first; aware, UTC.
        on_start: called when signals are heeded, before the first job.
        on_hangup: called on SIGHUP, in the middle of anything: it may only set a flag.
        drain_s: seconds that running jobs get to end.
    """
    logging.getLogger("apscheduler").setLevel(
        logging.ERROR
    )  # it warns whenever a job is still running at its next time: that is normal
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(MAX_JOBS)},  # one thread per job: a hanging one delays no other
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )
    running: dict[str, float] = {}
    _follow(scheduler, running, jobs(), started_at)
    previous = {
        number: signal.signal(number, lambda _number, _frame: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda _number, _frame: on_hangup())
    on_start()
    scheduler.start()
    try:
        ahead = time.time() - time.monotonic()
        while not stop.wait(CHECK_CLOCK_S):
            if time.time() - time.monotonic() < ahead - CHECK_CLOCK_S:  # the wall clock was set back
                now = dt.datetime.fromtimestamp(time.time(), dt.UTC)
                for job in scheduler.get_jobs():  # their next times are as far ahead as the clock was
                    job.modify(next_run_time=now)
            ahead = time.time() - time.monotonic()
            _follow(scheduler, running, jobs(), dt.datetime.fromtimestamp(time.time(), dt.UTC))
        _LOG.info("stopping: waiting for running work", extra=event("stopping"))
    finally:
        stop.set()
        drain = threading.Thread(target=scheduler.shutdown, daemon=True)
        drain.start()
        drain.join(drain_s)
        for number, handler in previous.items():
            signal.signal(number, handler)
    if drain.is_alive():
        _LOG.error("work is still running after %g s: leaving it", drain_s, extra=event("work_left", seconds=drain_s))
    return not drain.is_alive()


def _follow(
    scheduler: BackgroundScheduler, running: dict[str, float], jobs: Mapping[str, Job], now: dt.datetime
) -> None:
    """Make the scheduler's jobs those of *jobs*; *running* holds the names and intervals of what it has."""
    for name in running.keys() - jobs.keys():
        scheduler.remove_job(name)
        del running[name]
    for name, job in jobs.items():
        if running.get(name) != job.every_s:
            running[name] = job.every_s
            scheduler.add_job(
                _guarded, "interval", args=(name, job.run), seconds=job.every_s, id=name, next_run_time=now,
                replace_existing=True,
            )  # fmt: skip


def _guarded(name: str, run: Callable[[], object]) -> None:
    """Call *run*; whatever it raises ends this call and nothing else."""
    try:
        run()
    except BaseException as error:  # noqa: BLE001 - no job ends the daemon; the next tick tries again
        facts = event("job_failed", job=name, error=type(error).__name__)
        _LOG.error("job %s failed: %s: %s", name, type(error).__name__, error, extra=facts)
