"""
The clockwork with real threads: jobs that hang, raise and overrun, and the end.

The names begin with the row of the fault matrix they prove. Waits poll with a deadline.
"""

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from classifier.service import Job, run_service

WAIT_S = 20.0


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)  # noqa: TID251 - the scheduler reads the real one


def _stop_when(condition: Callable[[], bool], stop: threading.Event) -> threading.Thread:
    """Set *stop* as soon as the condition holds, or when the time is over."""

    def watch() -> None:
        ends = time.monotonic() + WAIT_S
        while time.monotonic() < ends and not condition():
            time.sleep(0.01)
        stop.set()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_s1_a_job_that_overruns_its_interval_is_called_again_and_never_twice_at_once() -> None:
    """The times it missed are made up by one call, not dropped and not queued."""
    running, most, calls = [0], [0], [0]
    stop = threading.Event()

    def slow() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        stop.wait(0.3)
        running[0] -= 1
        calls[0] += 1

    _stop_when(lambda: calls[0] >= 3, stop)
    assert run_service(lambda: {"slow": Job(slow, 0.05)}, stop, _now())

    assert calls[0] >= 3
    assert most[0] == 1


def test_s2_deliveries_go_on_while_a_scan_hangs() -> None:
    """Every job has a thread of its own; a slow endpoint is such a job too."""
    stop = threading.Event()
    calls: list[int] = []
    _stop_when(lambda: len(calls) >= 5, stop)
    jobs = {
        "scan": Job(lambda: stop.wait(WAIT_S), 0.05),
        "deliver slow": Job(lambda: stop.wait(WAIT_S), 0.05),
        "deliver desk": Job(lambda: calls.append(1), 0.05),
    }

    assert run_service(lambda: jobs, stop, _now())
    assert len(calls) >= 5


@pytest.mark.parametrize("error", [ValueError("x"), MemoryError(), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_s3_a_job_that_raises_is_logged_and_called_again(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when it raises what ends programs elsewhere."""
    stop = threading.Event()
    calls: list[int] = []

    def job() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise error

    _stop_when(lambda: len(calls) >= 3, stop)
    assert run_service(lambda: {"scan": Job(job, 0.05)}, stop, _now())

    assert len(calls) >= 3
    assert f"job scan failed: {type(error).__name__}" in caplog.text


_HANGING = """
import datetime as dt, os, sys, threading
from classifier.service import Job, run_service
hang = threading.Event()
def job():
    print("running", flush=True)
    hang.wait({seconds})
is_drained = run_service(lambda: {{"scan": Job(job, 60)}}, threading.Event(), dt.datetime.now(dt.UTC), drain_s={drain})
print("drained" if is_drained else "left", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(("seconds", "drain", "end"), [(1.5, 20, "drained"), (60, 1.5, "left")], ids=["ends", "hangs"])
def test_s4_a_stop_waits_for_running_work_but_not_for_ever(seconds: float, drain: float, end: str) -> None:
    """A second SIGTERM meanwhile changes nothing; the exit code is 0."""
    command = [sys.executable, "-c", _HANGING.format(seconds=seconds, drain=drain)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # both signals must be seen as two
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=40)
    finally:
        process.kill()
        process.wait()

    assert (out, process.returncode) == (f"{end}\n", 0)


def test_s5_a_clock_set_back_lets_no_job_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next time would be a day and an hour away."""
    real, back_s = time.time, [0.0]
    monkeypatch.setattr("classifier.service.time.time", lambda: real() - back_s[0])
    stop = threading.Event()
    calls: list[int] = []

    def step() -> bool:
        if calls and time.monotonic() > began + 0.5:  # after the service has looked at the clock once
            back_s[0] = 86_400.0
        return len(calls) >= 2

    began = time.monotonic()
    _stop_when(step, stop)
    assert run_service(lambda: {"scan": Job(lambda: calls.append(1), 3_600)}, stop, _now())

    assert len(calls) >= 2
