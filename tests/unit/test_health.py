"""Health: what is wrong as long as it is wrong, and who was told."""

import datetime as dt
import json
from dataclasses import dataclass

import pytest

from classifier.errors import ArticleError, ConfigError, LedgerError, ModelError, Problem
from classifier.health import MEANING, TELL_AGAIN_S, Alarms, Health, Reason, alive_message

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@dataclass
class Seconds:
    """A clock that never jumps."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


def _fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConfigError("x", (Problem("a", "b"),)), Reason.SETTINGS_REFUSED),
        (ModelError("x", "y"), Reason.MODEL_ERROR),
        (LedgerError("x", "y"), Reason.LEDGER_ERROR),
        (ArticleError("x", "unreadable", "y"), Reason.FOLDER_ERROR),
        (OSError(5, "x"), Reason.JOB_FAILED),
        (SystemExit(3), Reason.JOB_FAILED),
    ],
)
def test_a_reason_stands_until_the_same_job_succeeds(error: BaseException, reason: Reason) -> None:
    """Another job's success does not clear it."""
    health = Health(Seconds(), scan_within_s=10)
    with pytest.raises(type(error)):
        health.watch("scan", lambda: _fail(error))
    health.watch("deliver desk", lambda: None)

    assert health.reasons() == (reason,)
    assert health.watch("scan", lambda: 5) == 5
    assert health.reasons() == ()


def test_what_was_wrong_with_a_job_that_is_gone_is_forgotten() -> None:
    """An endpoint taken out of the settings leaves no fault behind."""
    health = Health(Seconds(), scan_within_s=10)
    with pytest.raises(LedgerError):
        health.watch("deliver gone", lambda: _fail(LedgerError("x", "y")))
    health.keep(["scan"])

    assert health.reasons() == ()


def test_s2_a_scan_that_hangs_is_noticed() -> None:
    """By the time since its last step; a long scan that goes on file by file does not hang."""
    clock = Seconds()
    health = Health(clock, scan_within_s=10)
    for _ in range(5):
        clock.now += 9
        assert health.reasons() == ()
        health.scan_went_on()
    clock.now += 11

    assert health.reasons() == (Reason.SCAN_OVERDUE,)
    assert health.scan_age_s == 11


def test_o1_no_new_file_for_too_long_is_a_reason_until_one_comes() -> None:
    """The time before a restart counts, unless the clock was set back in between."""
    clock = Seconds()
    health = Health(clock, scan_within_s=1e9, fresh_within_s=100, idle_s=90)
    clock.now += 9
    assert health.reasons() == ()
    clock.now += 2
    assert health.reasons() == (Reason.NO_NEW_FILES,)
    health.file_came()
    assert health.reasons() == ()
    assert Health(clock, scan_within_s=1, fresh_within_s=100, idle_s=-5).file_age_s == 0


def test_a_clock_that_is_off_is_a_reason_until_it_is_not() -> None:
    """Whatever jobs come and go; what is no news is said once."""
    health = Health(Seconds(), scan_within_s=10)
    news = [health.clock_compared(is_off=is_off) for is_off in (False, True, True)]
    health.keep(["scan"])

    assert news == [False, True, False]
    assert health.reasons() == (Reason.CLOCK_OFF,)
    assert health.clock_compared(is_off=False)
    assert health.reasons() == ()


def test_o1_alarms_are_told_once_and_again_until_taken() -> None:
    """Each receiver for itself; the same alarm has the same number; what is over is told too."""
    alarms = Alarms()
    assert alarms.follow((), NOW) == (set(), set())
    assert alarms.due(["ops", "boss"], 0.0) == []
    assert alarms.follow((Reason.NO_NEW_FILES,), NOW) == ({Reason.NO_NEW_FILES}, set())
    first, other = alarms.due(["ops", "boss"], 0.0)
    alarms.settle(first, 0.0, is_delivered=False)
    alarms.settle(other, 0.0, is_delivered=True)
    assert alarms.due(["ops", "boss"], TELL_AGAIN_S - 1) == []
    [again] = alarms.due(["ops", "boss"], TELL_AGAIN_S)
    alarms.settle(again, TELL_AGAIN_S, is_delivered=True)
    assert alarms.follow((Reason.NO_NEW_FILES,), NOW) == (set(), set())
    assert alarms.due(["ops", "boss"], 2 * TELL_AGAIN_S) == []
    assert alarms.follow((), NOW + dt.timedelta(hours=1)) == (set(), {Reason.NO_NEW_FILES})
    over = alarms.due(["ops", "boss"], 2 * TELL_AGAIN_S)

    assert again == first
    assert len({first.id, other.id, *(message.id for message in over)}) == 4
    assert json.loads(first.body) == {
        "type": "daemon.health",
        "timestamp": "2026-01-02T00:00:00Z",
        "data": {"status": "failing", "reasons": ["no_new_files"], "text": MEANING[Reason.NO_NEW_FILES]},
    }
    assert [json.loads(message.body)["data"]["status"] for message in over] == ["ok", "ok"]


def test_signs_of_life_differ() -> None:
    """A receiver that drops repeats must not drop them."""
    messages = [alive_message("deadman", number, "m@1", NOW) for number in ("1", "2")]

    assert messages[0].id != messages[1].id
    assert json.loads(messages[0].body)["data"] == {"model": "m@1"}


def test_every_reason_has_a_meaning() -> None:
    """In words that hold nothing of anybody's data."""
    assert set(MEANING) == set(Reason)
