"""When digests are due, how long quiet hours last, and what a day's budget is, whatever the clocks do."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.pace import Budget, Pace, Schedule, parse_pace

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia")
INSTANTS = st.datetimes(dt.datetime(2011, 1, 1), dt.datetime(2031, 1, 1), timezones=st.just(dt.UTC))  # noqa: DTZ001


def _pace(**table: Any) -> Pace:
    faults: list[tuple[str, str]] = []
    pace = parse_pace(table, lambda key, message: faults.append((key, message)))
    assert faults == []
    return pace


def _utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text + "+00:00")


@pytest.mark.parametrize(
    ("digest", "now", "due"),
    [
        pytest.param("instant", "2026-03-04T05:06:07", "2026-03-04T05:06:07", id="instant"),
        pytest.param("every 15m", "2026-03-04T05:06:07", "2026-03-04T05:15:00", id="quarter"),
        pytest.param("every 15m", "2026-03-04T05:15:00", "2026-03-04T05:15:00", id="on-the-dot"),
        pytest.param("every 6h", "2026-03-04T18:00:01", "2026-03-05T00:00:00", id="hours"),
        pytest.param("every 30s", "2026-03-04T18:00:01", "2026-03-04T18:00:30", id="seconds"),
        pytest.param("daily 08:00", "2026-03-04T06:59", "2026-03-04T07:00", id="winter"),
        pytest.param("daily 08:00", "2026-03-04T07:00", "2026-03-04T07:00", id="daily-on-the-dot"),
        pytest.param("daily 08:00", "2026-03-04T07:00:01", "2026-03-05T07:00", id="tomorrow"),
        pytest.param("daily 08:00", "2026-03-28T08:00", "2026-03-29T06:00", id="put-forward-overnight"),
        pytest.param("daily 08:00", "2026-10-24T08:00", "2026-10-25T07:00", id="put-back-overnight"),
        pytest.param("daily 02:30", "2026-03-29T00:00", "2026-03-29T01:30", id="an-hour-that-is-skipped"),
        pytest.param("daily 02:30", "2026-10-25T00:00", "2026-10-25T00:30", id="an-hour-that-comes-twice"),
        pytest.param("daily 02:30", "2026-10-25T00:31", "2026-10-26T01:30", id="and-only-once"),
        pytest.param("daily 00:00", "2026-03-04T22:30", "2026-03-04T23:00", id="midnight"),
    ],
)
def test_a_digest_is_due_when_the_wall_clock_says_so(digest: str, now: str, due: str) -> None:
    """In Berlin: one a day, on the days when the clocks change too."""
    schedule = _pace(digest=digest).digest

    assert schedule is not None
    assert schedule.next_after(_utc(now), BERLIN) == _utc(due)


@given(
    st.one_of(
        st.integers(0, 1_439).map(lambda at: Schedule(at=at)),
        st.integers(1, 86_400).map(lambda s: Schedule(every=dt.timedelta(seconds=s))),
    ),
    INSTANTS,
    st.sampled_from(ZONES),
)
def test_the_next_digest_is_neither_skipped_nor_made_twice(schedule: Schedule, now: dt.datetime, zone: str) -> None:
    """It is within two days, stays the same until it comes, and another one follows."""
    due = schedule.next_after(now, ZoneInfo(zone))
    after = schedule.next_after(due + dt.timedelta(microseconds=1), ZoneInfo(zone))

    assert now <= due <= now + dt.timedelta(days=2, hours=2)
    assert schedule.next_after(now + (due - now) / 2, ZoneInfo(zone)) == due
    assert due < after <= due + dt.timedelta(days=2, hours=2)


@pytest.mark.parametrize(
    ("quiet", "now", "ends"),
    [
        pytest.param("22:00-07:00", "2026-03-04T20:59", "2026-03-04T20:59", id="before"),
        pytest.param("22:00-07:00", "2026-03-04T21:00", "2026-03-05T06:00", id="begins"),
        pytest.param("22:00-07:00", "2026-03-05T05:59", "2026-03-05T06:00", id="ends"),
        pytest.param("22:00-07:00", "2026-03-05T06:00", "2026-03-05T06:00", id="over"),
        pytest.param("22:00-07:00", "2026-03-28T22:00", "2026-03-29T05:00", id="a-shorter-night"),
        pytest.param("22:00-07:00", "2026-10-24T22:00", "2026-10-25T06:00", id="a-longer-night"),
        pytest.param("02:00-03:00", "2026-03-29T01:00", "2026-03-29T01:00", id="a-window-that-is-skipped"),
        pytest.param("01:00-02:30", "2026-03-29T00:30", "2026-03-29T01:30", id="ends-in-what-is-skipped"),
        pytest.param(["22:00-24:00", "00:00-07:00"], "2026-03-04T21:30", "2026-03-05T06:00", id="without-a-break"),
        pytest.param({"days": ["sat", "sun"]}, "2026-03-07T12:00", "2026-03-08T23:00", id="weekend"),
        pytest.param(
            {"days": ["fri", "sat", "sun"], "hours": "17:00-16:59"},
            "2026-03-06T16:00",
            "2026-03-07T15:59",
            id="a-minute-of-break",
        ),
    ],
)
def test_quiet_hours_end_when_the_wall_clock_says_so(quiet: object, now: str, ends: str) -> None:
    """In Berlin."""
    hours = _pace(quiet=quiet, timezone="Europe/Berlin").quiet

    assert hours is not None
    assert hours.closes(_utc(now)) == _utc(ends)


@given(
    st.lists(
        st.tuples(st.integers(0, 1439), st.integers(0, 1439)).filter(lambda w: w[0] != w[1]), min_size=1, max_size=3
    ),
    INSTANTS,
    st.sampled_from(ZONES),
)
def test_quiet_hours_end_in_no_window(windows: list[tuple[int, int]], now: dt.datetime, zone: str) -> None:
    """Asked again at their end, they are over; before it they are not."""
    texts = [f"{a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02}" for a, b in windows]
    faults: list[tuple[str, str]] = []
    hours = parse_pace({"quiet": texts, "timezone": zone}, lambda key, text: faults.append((key, text))).quiet
    assert hours is not None
    end = hours.closes(now)

    if faults:
        assert [key for key, _ in faults] == ["quiet"]
    elif end is not None:
        assert hours.closes(end) == end
        assert hours.closes(now + (end - now) / 2) == end
        assert (end == now) == (hours.next_open(now) != now)


@pytest.mark.parametrize(
    ("at_most", "now", "start", "end"),
    [
        pytest.param("20/day", "2026-03-04T22:59", "2026-03-03T23:00", "2026-03-04T23:00", id="day"),
        pytest.param("20/day", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00", id="23-hours"),
        pytest.param("20/day", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00", id="25-hours"),
        pytest.param("5/hour", "2026-03-04T22:59", "2026-03-04T22:00", "2026-03-04T23:00", id="hour"),
        pytest.param("5/hour", "2026-10-25T01:30", "2026-10-25T01:00", "2026-10-25T02:00", id="the-hour-again"),
    ],
)
def test_a_budget_is_of_the_day_of_the_wall_clock(at_most: str, now: str, start: str, end: str) -> None:
    """In Berlin."""
    budget = _pace(at_most=at_most).at_most

    assert budget is not None
    assert str(budget) == at_most
    assert budget.window(_utc(now), BERLIN) == (_utc(start), _utc(end))


@pytest.mark.parametrize(
    ("table", "faults"),
    [
        (
            {"digest": "hourly"},
            [("digest", '"instant", "daily 08:00" or "every 15m" (up to 24h) needed, got \'hourly\'')],
        ),
        ({"digest": "daily 8:00"}, [("digest", "got 'daily 8:00'")]),
        ({"digest": "every 25h"}, [("digest", "got 'every 25h'")]),
        ({"digest": "every 0m"}, [("digest", "got 'every 0m'")]),
        ({"digest": 5}, [("digest", "got 5")]),
        ({"at_most": 20}, [("at_most", 'a number a day or an hour, such as "20/day" or "5/hour", needed, got 20')]),
        ({"at_most": "0/day"}, [("at_most", "got '0/day'")]),
        ({"at_most": "20/week"}, [("at_most", "got '20/week'")]),
        ({"quiet": "22:00-07:00"}, [("timezone", 'quiet hours need one, e.g. "Europe/Berlin"')]),
        (
            {"quiet": "22:00-07:00", "timezone": "Europe/Berln"},
            [("timezone", "there is no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'?")],
        ),
        ({"quiet": "22-7", "timezone": "UTC"}, [("quiet", "a stretch of time such as")]),
        ({"quiet": ["22:00-23:00", 5], "timezone": "UTC"}, [("quiet[1]", "got 5")]),
        ({"quiet": {"day": ["sat"]}, "timezone": "UTC"}, [("quiet.day", "no such key; did you mean 'days'?")]),
        ({"quiet": {"timezone": "UTC"}}, [("timezone", "quiet hours"), ("quiet.timezone", "write timezone beside")]),
        ({"quiet": "00:00-24:00", "timezone": "UTC"}, [("quiet", "these hours never end; leave some of the week")]),
        ({"quiet": {}, "timezone": "UTC"}, [("quiet", "these hours never end")]),
    ],
)
def test_every_fault_is_told(table: dict[str, object], faults: list[tuple[str, str]]) -> None:
    """With its key and what to write instead."""
    found: list[tuple[str, str]] = []
    parse_pace(table, lambda key, message: found.append((key, message)))

    assert [key for key, _ in found] == [key for key, _ in faults]
    assert all(part in message for (_, message), (_, part) in zip(found, faults, strict=True))


def test_nothing_said_is_nothing_wanted() -> None:
    """And other keys of the table are none of its business."""
    assert _pace(id="desk", url="x") == Pace()
    assert Budget(5, "hour") == _pace(at_most="5/hour").at_most
