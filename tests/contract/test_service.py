"""The clockwork: what is called when, what a failing or hanging job can and cannot do, and how it ends."""

import datetime as dt
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from classifier import service
from classifier.service import CallIn, Job, run_service

WAIT_S = 60.0


def wait_for(condition: Callable[[], object]) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s"
        time.sleep(0.005)


def run(
    jobs: dict[str, Job],
    meanwhile: Callable[[CallIn], object],
    *,
    stop: threading.Event | None = None,
    drain_s: float = 10.0,
) -> tuple[str, ...]:
    """Run the service while *meanwhile* runs in another thread; it is stopped when that ends."""
    stop = stop or threading.Event()
    faults: list[BaseException] = []

    def watch(call_in: CallIn) -> None:
        try:
            meanwhile(call_in)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            faults.append(error)
        finally:
            stop.set()

    left = run_service(
        lambda: jobs,
        stop,
        dt.datetime.fromtimestamp(time.time(), dt.UTC),
        on_start=lambda call_in: threading.Thread(target=watch, args=(call_in,)).start(),
        drain_s=drain_s,
    )
    if faults:
        raise faults[0]
    return left


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the clock more often."""
    monkeypatch.setattr(service, "CHECK_CLOCK_S", 0.05)


def test_s1_a_job_that_takes_longer_than_its_interval_is_called_again() -> None:
    """No call is lost to lateness, and none runs beside another one of the same job."""
    calls: list[float] = []
    at_once = [0, 0]

    def slow() -> None:
        at_once[0] += 1
        at_once[1] = max(at_once)
        calls.append(time.monotonic())
        time.sleep(0.12)
        at_once[0] -= 1

    run({"slow": Job(slow, 0.05)}, lambda _: wait_for(lambda: len(calls) >= 4))

    assert at_once[1] == 1


def test_s2_a_job_that_hangs_delays_no_other_and_the_end_does_not_wait_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A stuck network share holds one thread, not the deliveries; health notices by itself."""
    release = threading.Event()
    calls: list[int] = []
    jobs = {"stuck": Job(release.wait, 0.05), "other": Job(lambda: calls.append(1), 0.05)}
    left = run(jobs, lambda _: wait_for(lambda: len(calls) >= 5), drain_s=0.1)
    release.set()

    assert left == ("stuck",)
    assert "job stuck did not end in time" in caplog.text


@pytest.mark.parametrize("fault", [ValueError("odd"), MemoryError(), SystemExit(3), KeyboardInterrupt()])
def test_s3_whatever_a_job_raises_it_is_called_again(fault: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """The daemon does not end by accident, and the log says what happened and when it was over."""
    caplog.set_level(logging.INFO)
    calls: list[int] = []

    def fragile() -> None:
        calls.append(1)
        if len(calls) <= 2:
            raise fault

    run({"fragile": Job(fragile, 0.02)}, lambda _: wait_for(lambda: len(calls) >= 3))

    assert f"job fragile failed: {type(fault).__name__}" in caplog.text
    assert "job fragile works again after 2 failures" in caplog.text


def test_s3_a_job_that_keeps_failing_is_called_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Twice the wait after each failure, up to a bound; the log tells the first, second, fourth, eighth time."""
    monkeypatch.setattr(service, "MAX_BACK_OFF_S", 0.16)
    calls: list[float] = []

    def fail() -> None:
        calls.append(time.monotonic())
        raise ValueError

    run({"broken": Job(fail, 0.02)}, lambda _: wait_for(lambda: len(calls) >= 9))
    gaps = [after - before for before, after in pairwise(calls)]

    assert gaps[2] >= 0.08 - 0.02  # at least: how much longer a loaded machine takes says nothing
    assert min(gaps[4:]) >= 0.16 - 0.02  # and the next call does come: nothing is given up
    assert len([record for record in caplog.records if "failed" in record.message]) == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_s4_a_signal_ends_it_after_the_work_at_hand(number: signal.Signals) -> None:
    """What runs is finished; a second signal changes nothing; the handlers of before are back."""
    finished: list[bool] = []
    before = signal.getsignal(number)
    stop = threading.Event()

    def work() -> None:
        os.kill(os.getpid(), number)
        stop.wait(WAIT_S)
        os.kill(os.getpid(), number)
        time.sleep(0.1)
        finished.append(True)

    left = run({"work": Job(work, 60.0)}, lambda _: stop.wait(WAIT_S), stop=stop)

    assert finished == [True]
    assert left == ()
    assert signal.getsignal(number) == before


def test_s5_a_clock_set_back_holds_nothing_up(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs whose next time is as far ahead as the clock was are called at once, once."""
    shift = [0.0]
    real = time.time

    class Clock:
        monotonic = staticmethod(time.monotonic)
        sleep = staticmethod(time.sleep)

        @staticmethod
        def time() -> float:
            return real() + shift[0]

    monkeypatch.setattr(service, "time", Clock)
    calls: list[int] = []

    def set_back(_: CallIn) -> None:
        wait_for(lambda: len(calls) == 1)
        shift[0] = -86_400.0
        wait_for(lambda: len(calls) == 2)
        time.sleep(0.2)

    run({"rare": Job(lambda: calls.append(1), 3_600.0)}, set_back)

    assert len(calls) == 2


def test_a_job_can_be_called_sooner_but_not_later(quick: None) -> None:
    """Only the next call is moved; a name that is not there is none's business."""
    calls: list[str] = []

    def hurry(call_in: CallIn) -> None:
        wait_for(lambda: sorted(calls) == ["often", "rare"])
        call_in("rare", 0.0)
        call_in("often", 3_600.0)
        call_in("nobody", 0.0)
        wait_for(lambda: calls.count("rare") == 2 and calls.count("often") >= 3)

    run({name: Job(lambda name=name: calls.append(name), s) for name, s in (("rare", 3_600.0), ("often", 0.2))}, hurry)  # type: ignore[misc]


def test_jobs_come_and_go_while_it_runs(quick: None) -> None:
    """The table of jobs is asked again and again; a changed interval counts at once."""
    calls: list[str] = []
    jobs = {"old": Job(lambda: calls.append("old"), 0.02), "slow": Job(lambda: calls.append("slow"), 3_600.0)}

    def change(_: CallIn) -> None:
        wait_for(lambda: calls.count("old") >= 2 and calls.count("slow") == 1)
        del jobs["old"]
        jobs["new"] = Job(lambda: calls.append("new"), 0.02)
        jobs["slow"] = Job(jobs["slow"].run, 0.02)
        wait_for(lambda: calls.count("new") >= 2 and calls.count("slow") >= 3)
        seen = calls.count("old")
        wait_for(lambda: calls.count("new") >= 6)
        assert calls.count("old") == seen

    run(jobs, change)


def test_hangup_is_passed_on(tmp_path: Path) -> None:
    """SIGHUP calls what was asked for, in the main thread."""
    stop = threading.Event()
    heard: list[bool] = []

    def hang_up() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        wait_for(lambda: heard)
        stop.set()

    run_service(
        lambda: {"hang up": Job(hang_up, 60.0)},
        stop,
        dt.datetime.fromtimestamp(time.time(), dt.UTC),
        on_hangup=lambda: heard.append(threading.current_thread() is threading.main_thread()),
    )

    assert heard == [True]
