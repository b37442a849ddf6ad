"""
How often and when a reader wants to be told: at once or in digests, never in quiet hours, at most so many.

Hides: time zones and daylight saving time.
Keeps: pure; the instant is an argument, and nothing is remembered: when the next digest is due follows from the clock
and the settings alone, so neither a restart nor a change of the settings moves it.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from classifier.hours import OpeningHours, parse_hours, parse_zone

PACE_KEYS = ("digest", "quiet", "at_most", "timezone")
_EVERY = re.compile(r"every ([1-9]\d{0,4})([smh])")
_DAILY = re.compile(r"daily ([01]\d|2[0-3]):([0-5]\d)")
_AT_MOST = re.compile(r"([1-9]\d{0,5})/(day|hour)")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600}
_DAY = dt.timedelta(days=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """
    When digests are made; at most one of the two is there, and without both everything is told at once.

    Attributes:
        every: at all multiples of it since midnight UTC.
        at: at this time of every day, in minutes after midnight.
    """

    every: dt.timedelta | None = None
    at: int | None = None

    @property
    def is_instant(self) -> bool:
        """Whether there are no digests."""
        return self.every is None and self.at is None

    def next_after(self, now: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
        """
        Return the first instant from *now* on, itself among them, at which a digest is made, in UTC.

        Args:
            now: aware.
            zone: where the wall clock hangs that `at` is read from.
        """
        now = now.astimezone(dt.UTC)
        if self.every is not None:
            return now + (_EPOCH - now) % self.every
        if self.at is None:
            return now
        today = now.astimezone(zone).date()
        days = (today + _DAY * offset for offset in (-1, 0, 1, 2))  # a zone may leave a whole day out
        return min(instant for day in days if (instant := _instant(day, self.at, zone)) >= now)


@dataclass(frozen=True, slots=True)
class Budget:
    """How many alerts are told at once within a day, or an hour, of the wall clock."""

    at_most: int
    per: Literal["day", "hour"]

    def window(self, now: dt.datetime, zone: dt.tzinfo) -> tuple[dt.datetime, dt.datetime]:
        """Return the first instant of the day or hour that *now*, aware, is in, and of the next one, in UTC."""
        local = now.astimezone(zone)
        if self.per == "hour":
            start = local.replace(minute=0, second=0, microsecond=0).astimezone(dt.UTC)
            return start, start + dt.timedelta(hours=1)
        return _instant(local.date(), 0, zone), _instant(local.date() + _DAY, 0, zone)

    def __str__(self) -> str:
        return f"{self.at_most}/{self.per}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """
    What a rule or an endpoint says of it; None where it says nothing.

    Attributes:
        digest: when digests are made.
        quiet: hours in which nothing is told; what comes meanwhile is one digest at their end. Of endpoints only.
        at_most: how many alerts are told at once, the rest in a digest.
        zone: where the wall clock hangs.
    """

    digest: Schedule | None = None
    quiet: OpeningHours | None = None
    at_most: Budget | None = None
    zone: ZoneInfo | None = None


def parse_pace(table: Mapping[str, object], fault: Callable[[str, str], None]) -> Pace:
    """
    Read what a ``[[rule]]`` or ``[[endpoint]]`` says of its pace, whatever else it says.

    Args:
        table: what TOML made of it: ``{"digest"?, "quiet"?, "at_most"?, "timezone"?}``.
        fault: told the key at fault and what is wrong, for every fault there is.
    """
    zone = parse_zone(table["timezone"], fault) if "timezone" in table else None
    if "quiet" in table and "timezone" not in table:
        fault("timezone", 'quiet hours need one, e.g. "Europe/Berlin"')
    digest = _schedule(table["digest"], fault) if "digest" in table else None
    at_most = _budget(table["at_most"], fault) if "at_most" in table else None
    quiet = _quiet(table["quiet"], zone, fault) if "quiet" in table else None
    return Pace(digest=digest, quiet=quiet, at_most=at_most, zone=zone)


def _schedule(value: object, fault: Callable[[str, str], None]) -> Schedule | None:
    if value == "instant":
        return Schedule()
    text = value if isinstance(value, str) else ""
    if match := _DAILY.fullmatch(text):
        return Schedule(at=60 * int(match[1]) + int(match[2]))
    if (match := _EVERY.fullmatch(text)) and int(match[1]) * _UNIT_S[match[2]] <= _DAY.total_seconds():
        return Schedule(every=dt.timedelta(seconds=int(match[1]) * _UNIT_S[match[2]]))
    fault("digest", f'"instant", "daily 08:00" or "every 15m" (up to 24h) needed, got {value!r}')
    return None


def _budget(value: object, fault: Callable[[str, str], None]) -> Budget | None:
    match = _AT_MOST.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        fault("at_most", f'a number a day or an hour, such as "20/day" or "5/hour", needed, got {value!r}')
        return None
    return Budget(int(match[1]), "day" if match[2] == "day" else "hour")


def _quiet(value: object, zone: ZoneInfo | None, fault: Callable[[str, str], None]) -> OpeningHours | None:
    own = value if isinstance(value, Mapping) else {"hours": value}
    if "timezone" in own:
        fault("quiet.timezone", "no such key; write timezone beside quiet")
        return None
    if zone is None:
        return None

    def tell(key: str, message: str) -> None:
        fault(f"quiet.{key}" if isinstance(value, Mapping) else "quiet" + key.removeprefix("hours"), message)

    quiet = parse_hours({**own, "timezone": zone.key}, tell)
    if quiet is not None and quiet.closes(_EPOCH) is None:
        fault("quiet", "these hours never end; leave some of the week")
    return quiet


def _instant(day: dt.date, minutes: int, zone: dt.tzinfo) -> dt.datetime:
    clock = dt.time(minutes // 60, minutes % 60)
    return dt.datetime.combine(day, clock, zone).astimezone(dt.UTC)
