"""Opening hours: when they open next, whatever the clocks do, and how a faulty table is refused."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.hours import DAYS, OpeningHours, parse_hours

ZONES = ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia")


def _hours(**table: Any) -> OpeningHours:
    faults: list[tuple[str, str]] = []
    hours = parse_hours(table, lambda key, message: faults.append((key, message)))
    assert hours is not None, faults
    return hours


@pytest.mark.parametrize(
    ("table", "now", "opens"),
    [
        pytest.param({"hours": "08:00-18:00"}, "2026-03-04T07:59", "2026-03-04T08:00", id="before"),
        pytest.param({"hours": "08:00-18:00"}, "2026-03-04T08:00", "2026-03-04T08:00", id="first-instant"),
        pytest.param({"hours": "08:00-18:00"}, "2026-03-04T17:59", "2026-03-04T17:59", id="within"),
        pytest.param({"hours": "08:00-18:00"}, "2026-03-04T18:00", "2026-03-05T08:00", id="the-end-is-outside"),
        pytest.param({"days": ["mon"], "hours": "08:00-18:00"}, "2026-03-04T12:00", "2026-03-09T08:00", id="day"),
        pytest.param({"days": ["mon"], "hours": "08:00-18:00"}, "2026-03-09T18:00", "2026-03-16T08:00", id="a-week"),
        pytest.param({"days": ["wed"]}, "2026-03-04T23:59", "2026-03-04T23:59", id="whole-day"),
        pytest.param({"days": ["wed"]}, "2026-03-05T00:00", "2026-03-11T00:00", id="after-the-whole-day"),
        pytest.param({"hours": "22:00-06:00"}, "2026-03-04T05:00", "2026-03-04T05:00", id="over-midnight"),
        pytest.param({"days": ["tue"], "hours": "22:00-06:00"}, "2026-03-04T05:00", "2026-03-04T05:00", id="began-tue"),
        pytest.param(
            {"days": ["wed"], "hours": "22:00-06:00"}, "2026-03-04T05:00", "2026-03-04T22:00", id="begins-wed"
        ),
        pytest.param({"hours": ["08:00-09:00", "12:00-13:00"]}, "2026-03-04T10:00", "2026-03-04T12:00", id="two"),
    ],
)
def test_next_open_is_now_within_the_hours_and_their_start_outside(table: dict[str, Any], now: str, opens: str) -> None:
    """4 March 2026 is a Wednesday."""
    hours = _hours(timezone="UTC", **table)

    assert hours.next_open(dt.datetime.fromisoformat(now + "+00:00")) == dt.datetime.fromisoformat(opens + "+00:00")


def test_next_open_follows_the_wall_clock_of_the_zone() -> None:
    """Eight o'clock in Berlin is seven in UTC in winter and six in summer; an hour that is skipped opens after it."""
    office = _hours(hours="08:00-18:00", timezone="Europe/Berlin")
    night = _hours(hours="02:30-04:00", timezone="Europe/Berlin")

    assert office.next_open(dt.datetime(2026, 3, 28, 0, tzinfo=dt.UTC)) == dt.datetime(2026, 3, 28, 7, tzinfo=dt.UTC)
    assert office.next_open(dt.datetime(2026, 3, 29, 0, tzinfo=dt.UTC)) == dt.datetime(2026, 3, 29, 6, tzinfo=dt.UTC)
    assert night.next_open(dt.datetime(2026, 3, 29, 0, tzinfo=dt.UTC)) == dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC)


@given(
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.lists(
        st.tuples(st.integers(0, 1439), st.integers(0, 1439)).filter(lambda w: w[0] != w[1]), min_size=1, max_size=3
    ),
    st.sampled_from(ZONES),
    st.datetimes(dt.datetime(2011, 1, 1), dt.datetime(2031, 1, 1), timezones=st.just(dt.UTC)),  # noqa: DTZ001
)
def test_next_open_is_open_and_nothing_before_it_is(
    days: set[str], windows: list[tuple[int, int]], zone: str, now: dt.datetime
) -> None:
    """It is at most eight days ahead, asking there again gives it back, and the time in between is outside."""
    hours = OpeningHours(days=frozenset(DAYS.index(day) for day in days), windows=tuple(windows), zone=ZoneInfo(zone))
    opens = hours.next_open(now)

    assert now <= opens <= now + dt.timedelta(days=8, hours=2)
    assert hours.next_open(opens) == opens
    assert hours.next_open(now + (opens - now) / 2) in {opens, now}


@pytest.mark.parametrize(
    ("table", "faults"),
    [
        (5, [("", 'a table such as {hours = "08:00-18:00", timezone = "Europe/Berlin"} needed, got 5')]),
        ({}, [("timezone", 'the name of a time zone needed, e.g. "Europe/Berlin"')]),
        (
            {"timezone": "Europe/Berln", "day": ["mon"]},
            [
                ("day", "no such key; did you mean 'days'?; it has days, hours, timezone"),
                ("timezone", "there is no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'?"),
            ],
        ),
        ({"timezone": "../../etc/passwd"}, [("timezone", "there is no time zone '../../etc/passwd'")]),
        ({"timezone": "Europe"}, [("timezone", "there is no time zone 'Europe'")]),
        ({"timezone": ""}, [("timezone", "there is no time zone ''")]),
        ({"timezone": 1}, [("timezone", "there is no time zone 1")]),
        ({"timezone": "UTC", "days": []}, [("days", "a list with at least one of mon")]),
        ({"timezone": "UTC", "days": ["mon", "Tue", 3]}, [("days[1]", "got 'Tue'"), ("days[2]", "got 3")]),
        ({"timezone": "UTC", "hours": "8-18"}, [("hours", "got '8-18'")]),
        ({"timezone": "UTC", "hours": "08:00-08:00"}, [("hours", "got '08:00-08:00'")]),
        ({"timezone": "UTC", "hours": "24:00-08:00"}, [("hours", "got '24:00-08:00'")]),
        ({"timezone": "UTC", "hours": ["08:00-18:00", "x"]}, [("hours[1]", "got 'x'")]),
        ({"timezone": "UTC", "hours": []}, [("hours", "at least one stretch of time")]),
    ],
)
def test_parse_hours_tells_every_fault(table: object, faults: list[tuple[str, str]]) -> None:
    """Each with its key and what to write instead."""
    found: list[tuple[str, str]] = []

    assert parse_hours(table, lambda key, message: found.append((key, message))) is None
    assert [key for key, _ in found] == [key for key, _ in faults]
    assert all(part in message for (_, message), (_, part) in zip(found, faults, strict=True))


def test_parse_hours_says_when_the_machine_has_no_time_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare container has none; the fault is not the user's spelling."""
    monkeypatch.setattr("classifier.hours.available_timezones", set)
    found: list[tuple[str, str]] = []
    parse_hours({"timezone": "Nowhere/Else"}, lambda key, message: found.append((key, message)))

    assert found == [("timezone", "this machine has no time zones; install its tzdata package")]
