"""
The daemon's clockwork: APScheduler calls the jobs, nothing more.

Keeps: no job ever runs twice at the same time; whatever a job raises ends this call of it and nothing else, and it is
called again, less and less often while it goes on failing; a job that hangs delays no other; a stop waits for what is
running, but not for ever. What was found and sent is in the ledger; the scheduler remembers nothing.
"""

import datetime as dt
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from classifier.logs import event

_LOG = logging.getLogger("classifier")
CHECK_CLOCK_S = 1.0
MAX_JOBS = 250  # threads are made when they are needed; there are at most 200 endpoints
MAX_BACK_OFF_S = 30.0  # a job that keeps failing is called again at least so often, or as often as it asked for
DRAIN_S = 30.0  # what runs when the service is stopped may take so long; what it had not finished is found again

CallIn = Callable[[str, float], None]  # name of a job, seconds: call it then, if it would otherwise be called later


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
    on_start: Callable[[CallIn], None] = lambda _call_in: None,
    on_hangup: Callable[[], None] = lambda: None,
    drain_s: float = DRAIN_S,
) -> tuple[str, ...]:
    """
    Call the jobs, first at *started_at*, until *stop* is set or SIGTERM or SIGINT comes; then let running jobs end.

    Must be called from the main thread. Jobs should look at *stop* between two pieces of work.

    Args:
        jobs: what to call, by name; asked again and again, for jobs can come, go, and change how often they run.
        stop: ends the service when it is set.
        started_at: when each job is called first; aware, UTC.
        on_start: called when the clockwork runs, with a function that has a job called sooner.
        on_hangup: called on SIGHUP, in the middle of anything: it may only set a flag.
        drain_s: seconds to wait for running jobs after the stop.

    Returns:
        The names of the jobs that had still not ended then; the process cannot end by itself while they run.
    """
    logging.getLogger("apscheduler").setLevel(
        logging.CRITICAL
    )  # it warns whenever a job is still running at its next time: that is normal
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(MAX_JOBS)},  # one thread per job: a hanging one delays no other
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )
    guards: dict[str, _Guard] = {}
    _follow(scheduler, guards, jobs(), started_at)
    previous = {
        number: signal.signal(number, lambda _number, _frame: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda _number, _frame: on_hangup())

    def call_in(name: str, seconds: float) -> None:
        at = _now() + dt.timedelta(seconds=seconds)
        with suppress(JobLookupError):  # it is gone by now
            job = scheduler.get_job(name)
            if job is not None and job.next_run_time > at:
                job.modify(next_run_time=at)

    ahead = _ahead()
    scheduler.start()
    on_start(call_in)
    try:
        while not stop.wait(CHECK_CLOCK_S):
            before, ahead = ahead, _ahead()
            if ahead < before - CHECK_CLOCK_S:  # the wall clock was set back
                for job in scheduler.get_jobs():  # their next times are as far ahead as the clock was
                    job.modify(next_run_time=_now())
            _follow(scheduler, guards, jobs(), _now())
        _LOG.info("stopping: waiting for running work", extra=event("stopping"))
    finally:
        stop.set()
        scheduler.shutdown(wait=False)
        left = _drain(guards, drain_s)
        for number, handler in previous.items():
            signal.signal(number, handler)
    for name in left:
        _LOG.error("job %s did not end in time; what it was doing is done again", name, extra=event("cut", job=name))
    return left


def _now() -> dt.datetime:
    """Return the instant the scheduler goes by."""
    return dt.datetime.fromtimestamp(time.time(), dt.UTC)


def _ahead() -> float:
    """Return seconds between the wall clock and the one that never jumps: a step of the first shows in them."""
    return time.time() - time.monotonic()


def _follow(
    scheduler: BackgroundScheduler, guards: "dict[str, _Guard]", jobs: Mapping[str, Job], now: dt.datetime
) -> None:
    """Make the scheduler's jobs those of *jobs*; *guards* holds what it has."""
    for name in guards.keys() - jobs.keys():
        scheduler.remove_job(name)
        del guards[name]
    for name, job in jobs.items():
        guard = guards.setdefault(name, _Guard(name))
        is_changed = guard.job is None or guard.job.every_s != job.every_s
        guard.job = job
        if is_changed:
            scheduler.add_job(
                guard.call, "interval", seconds=job.every_s, id=name, next_run_time=now, replace_existing=True
            )


def _drain(guards: "Mapping[str, _Guard]", drain_s: float) -> tuple[str, ...]:
    """Wait until no job runs; return the names of those that still do when the time is over."""
    deadline = time.monotonic() + drain_s
    while (left := tuple(name for name, guard in guards.items() if guard.is_running)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


class _Guard:
    """Stands between the scheduler and one job: nothing that the job raises gets past it."""

    def __init__(self, name: str) -> None:
        self.job: Job | None = None
        self.is_running = False
        self._name = name
        self._failures = 0
        self._not_before = 0.0  # monotonic

    def call(self) -> None:
        """Call the job, unless it has just failed too often for that."""
        job = self.job
        if job is None or time.monotonic() < self._not_before:
            return
        self.is_running = True
        try:
            job.run()
        except BaseException as error:  # noqa: BLE001 - the next call tries again, whatever it was
            self._failed(error, job.every_s)
        else:
            self._worked()
        finally:
            self.is_running = False

    def _failed(self, error: BaseException, every_s: float) -> None:
        self._failures += 1
        wait_s = max(every_s, min(every_s * 2 ** min(self._failures - 1, 20), MAX_BACK_OFF_S))
        self._not_before = time.monotonic() + wait_s - every_s / 2  # the scheduler's own tick is not missed by a hair
        if self._failures & (self._failures - 1):
            return  # the first, second, fourth, eighth ... is told: a fault that lasts does not fill the log
        facts = event("job_failed", job=self._name, error=type(error).__name__, failures=self._failures)
        _LOG.error("job %s failed: %s: %s", self._name, type(error).__name__, error, extra=facts)

    def _worked(self) -> None:
        if self._failures:
            facts = event("job_works", job=self._name, failures=self._failures)
            _LOG.info("job %s works again after %d failures", self._name, self._failures, extra=facts)
        self._failures = 0
