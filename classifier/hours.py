"""
Hours of the week in some time zone: is it now within them, and when does it next become so.

Hides: time zones, daylight saving time, windows over midnight.
Keeps: pure; the instant is an argument. A window starts and ends at the wall-clock times written; where the clock is
put forward over one of them, the hour that does not exist counts as the one after it.
"""

import contextlib
import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from classifier.errors import did_you_mean

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_KEYS = ("days", "hours", "timezone")
_MINUTES_OF_DAY = 24 * 60
_LONGEST = dt.timedelta(days=7, hours=3)  # of windows without a break between them; clocks are changed within it
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|(24):(00))")

Window = tuple[int, int]  # minutes after midnight; an end before its start is on the next day


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningHours:
    """
    Windows of time that come again every week.

    Attributes:
        days: 0 is Monday; the days on which the windows start. Never empty.
        windows: of each of these days. Never empty.
        zone: where the wall clock hangs.
    """

    days: frozenset[int]
    windows: tuple[Window, ...]
    zone: ZoneInfo

    def next_open(self, now: dt.datetime) -> dt.datetime:
        """
        Return the first instant from *now* on that is within a window, in UTC: *now* itself when it is.

        Args:
            now: aware.
        """
        now = now.astimezone(dt.UTC)
        return min(max(start, now) for start, end in self._around(now) if end > now)

    def closes(self, now: dt.datetime) -> dt.datetime | None:
        """
        Return the first instant from *now* on that is outside all windows, in UTC; None when there is none.

        Args:
            now: aware.
        """
        now = end_of_all = now.astimezone(dt.UTC)
        for start, end in sorted(self._around(now)):
            if start <= end_of_all < end:  # windows may overlap, or follow each other without a break
                end_of_all = end
        return end_of_all if end_of_all - now <= _LONGEST else None

    def _around(self, now: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime]]:
        """Yield start and end of the windows of the days around *now*."""
        today = now.astimezone(self.zone).date()
        for offset in range(-1, 9):  # a window of yesterday may still be open; a week and a day always hold the next
            day = today + dt.timedelta(days=offset)
            if day.weekday() in self.days:
                for first, last in self.windows:
                    end = last if last > first else last + _MINUTES_OF_DAY
                    if (start := self._instant(day, first)) < (until := self._instant(day, end)):
                        yield start, until

    def _instant(self, day: dt.date, minutes: int) -> dt.datetime:
        days, rest = divmod(minutes, _MINUTES_OF_DAY)
        clock = dt.time(rest // 60, rest % 60)
        return dt.datetime.combine(day + dt.timedelta(days=days), clock, self.zone).astimezone(dt.UTC)


def parse_hours(table: object, fault: Callable[[str, str], None]) -> OpeningHours | None:
    """
    Read ``{days = ["mon", ...], hours = "08:00-18:00", timezone = "Asia/Shanghai"}``.

    Without ``days`` every day, without ``hours`` the whole day; ``hours`` may be a list. The time zone must be said.

    Args:
        table: what TOML made of it.
        fault: told the key at fault (empty for the table itself) and what is wrong, for every fault there is.

    Returns:
        None when there was a fault.
    """
    if not isinstance(table, Mapping):
        fault("", f'a table such as {{hours = "08:00-18:00", timezone = "Europe/Berlin"}} needed, got {table!r}')
        return None
    faults = 0

    def tell(key: str, message: str) -> None:
        nonlocal faults
        faults += 1
        fault(key, message)

    for key in table:
        if key not in _KEYS:
            tell(str(key), f"no such key{did_you_mean(str(key), _KEYS)}; it has {', '.join(_KEYS)}")
    days = _days(table.get("days", list(DAYS)), tell)
    windows = _windows(table.get("hours", "00:00-24:00"), tell)
    zone = parse_zone(table.get("timezone"), tell)
    if faults or zone is None:
        return None
    return OpeningHours(days=frozenset(days), windows=tuple(windows), zone=zone)


def _days(value: object, fault: Callable[[str, str], None]) -> list[int]:
    if not isinstance(value, list) or not value:
        fault("days", f"a list with at least one of {', '.join(DAYS)} needed, got {value!r}")
        return []
    for position, item in enumerate(value):
        if item not in DAYS:
            fault(f"days[{position}]", f"one of {', '.join(DAYS)} needed, got {item!r}")
    return [DAYS.index(item) for item in value if item in DAYS]


def _windows(value: object, fault: Callable[[str, str], None]) -> list[Window]:
    items = value if isinstance(value, list) else [value]
    windows = []
    for position, item in enumerate(items):
        match = _WINDOW.fullmatch(item) if isinstance(item, str) else None
        first, last = (_minutes(match[0][:5]), _minutes(match[0][6:])) if match else (0, 0)
        if first == last:
            key = f"hours[{position}]" if isinstance(value, list) else "hours"
            fault(key, f'a stretch of time such as "08:00-18:00" or "22:00-06:00" needed, got {item!r}')
        windows.append((first, last))
    if not items:
        fault("hours", 'at least one stretch of time such as "08:00-18:00" needed, got []')
    return windows


def _minutes(clock: str) -> int:
    return 60 * int(clock[:2]) + int(clock[3:])


def parse_zone(value: object, fault: Callable[[str, str], None]) -> ZoneInfo | None:
    """
    Return the time zone of this name; None when there was a fault.

    Args:
        value: what TOML made of it.
        fault: told ``timezone`` and what is wrong.
    """
    if isinstance(value, str):
        # A key that leads out of the folder of time zones is a ValueError, a folder in it an OSError.
        with contextlib.suppress(ZoneInfoNotFoundError, ValueError, OSError):
            return ZoneInfo(value)
    known = available_timezones()  # slow: it reads them all
    if value is None:
        fault("timezone", 'the name of a time zone needed, e.g. "Europe/Berlin"')
    elif not known:
        fault("timezone", "this machine has no time zones; install its tzdata package")
    else:
        hint = did_you_mean(str(value), sorted(known))
        fault("timezone", f'there is no time zone {value!r}{hint}; write one such as "Europe/Berlin"')
    return None
