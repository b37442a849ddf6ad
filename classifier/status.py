"""
How everything does, as one value: what `classifier status` shows.

    Overview (of the ledger) + endpoints --Status--> what is wrong, or why a quiet day can be trusted

Keeps: pure; `Status` holds all that is shown, so that a screen and a JSON object say the same. A day is quiet when
nothing matched; it can be trusted when files came and were scored, the folder is looked at, endpoints work and nothing
waits. Silence for any other reason is named.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from classifier.delivery import EndpointHealth, EndpointState

MARK_EVERY = dt.timedelta(seconds=30)  # how often a daemon writes down that it has looked at its folder
GRACE = dt.timedelta(seconds=15)  # a scan may wait for the ledger, or be busy with one large article
LATE_S = 900.0  # a message due for longer than that is one that somebody should know of


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCounts:
    """
    What one rule did.

    Attributes:
        today: articles that met it since midnight.
        week: the same of seven days, today among them.
        sent: messages made because of these, in seven days.
        aside: alerts put aside for digests, in seven days.
        held: what nobody was told of, in seven days.
    """

    today: int = 0
    week: int = 0
    sent: int = 0
    aside: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """
    What the ledger knows of today and of the last seven days.

    Attributes:
        scan_at: when the folder was last looked at to the end; None when never. Written every `MARK_EVERY` at most.
        newest_file_at: when the last file got its verdict; None when none ever did.
        model: name and id of the model that tagged the newest article; None when there is none.
        files: files of today by state.
        rejections: those rejected, by reason.
        abstentions: articles of today that the model abstained from, by reason.
        untagged: articles of today without tags all the same: nothing in them reached a limit.
        rules: rule to counts, for rules that were met in seven days.
        feedback: verdict to how often people said it in seven days.
    """

    scan_at: dt.datetime | None
    newest_file_at: dt.datetime | None
    model: str | None
    files: Mapping[str, int]
    rejections: Mapping[str, int]
    abstentions: Mapping[str, int]
    untagged: int
    rules: Mapping[str, RuleCounts]
    feedback: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatus:
    """
    One endpoint.

    Attributes:
        id: its name.
        health: what is known of it.
        pending: messages on their way.
        dead: messages given up.
        oldest_due_s: for how many seconds the message due longest has been due.
        is_named: it stands in the settings; messages of another one wait until it does again.
    """

    id: str
    health: EndpointHealth
    pending: int = 0
    dead: int = 0
    oldest_due_s: float = 0.0
    is_named: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    How everything does at one instant.

    Attributes:
        now: aware; its zone is the one that days are counted in.
        midnight: aware: when today began in that zone.
        folder: the watched folder.
        is_folder_there: it can be found.
        scan_every: how often a daemon looks at it.
        fresh_within: a file should come at least so often; None when nobody said so.
        overview: of the ledger.
        rules: all rules of the settings, in their order, with those that are gone but were met in seven days.
        endpoints: those of the settings, then others that messages wait for.
        held_back: what is held back on purpose, by kind, with how much it is; shown as it stands.
    """

    now: dt.datetime
    midnight: dt.datetime
    folder: str
    is_folder_there: bool
    scan_every: dt.timedelta
    fresh_within: dt.timedelta | None
    overview: Overview
    rules: Mapping[str, RuleCounts]
    endpoints: tuple[EndpointStatus, ...]
    held_back: Mapping[str, int] = field(default_factory=dict)

    @property
    def looked_at(self) -> dt.datetime | None:
        """When the folder was last seen to be looked at: a scan ended, or, within one, a file got its verdict."""
        known = [at for at in (self.overview.scan_at, self.overview.newest_file_at) if at is not None]
        return max(known, default=None)

    @property
    def matched_today(self) -> int:
        """Matches of today, of all rules."""
        return sum(counts.today for counts in self.rules.values())

    @property
    def files_today(self) -> int:
        """Files of today, of all states."""
        return sum(self.overview.files.values())

    def troubles(self) -> tuple[str, ...]:
        """Say what keeps alerts from being made or from arriving, a sentence each; nothing when all is well."""
        found = []
        if not self.is_folder_there:
            found.append(f"the folder {self.folder} is not there")
        if self.looked_at is None:
            found.append("the folder was never looked at; is the daemon running?")
        elif self.now - self.looked_at > 2 * self.scan_every + MARK_EVERY + GRACE:
            age = say_age(self.now - self.looked_at)
            found.append(f"the folder was last looked at {age} ago; is the daemon running?")
        newest_at = self.overview.newest_file_at
        if self.fresh_within is not None and newest_at is not None and self.now - newest_at > self.fresh_within:
            found.append(f"no new file for {say_age(self.now - newest_at)}, longer than fresh_within_s allows")
        for endpoint in self.endpoints:
            found += _troubles_of(endpoint)
        return tuple(found)

    def doubts(self) -> tuple[str, ...]:
        """Say why a day on which nothing matched tells little, although nothing is known to be wrong."""
        found = []
        scored = self.overview.files.get("scored", 0)
        if not scored:
            found.append("no new article came")
        elif not self._tagged:
            found.append(f"none of {_count(scored, 'article')} got a tag")
        found += [
            f"nothing was ever delivered to {item.id}; `classifier endpoint probe {item.id}` tries it"
            for item in self.endpoints
            if item.is_named and item.health.delivered_at is None
        ]
        return tuple(found)

    def trust(self) -> tuple[str, ...]:
        """Say why it can be believed that nothing was missed today; nothing when it cannot."""
        newest_at = self.overview.newest_file_at
        if self.troubles() or self.doubts() or self.looked_at is None or newest_at is None:
            return ()
        waits = any(endpoint.pending for endpoint in self.endpoints)
        n = len(self.endpoints)
        articles = _count(self.overview.files.get("scored", 0), "article")
        came = f"the newest came {say_age(self.now - newest_at)} ago"
        return (
            f"{articles} of today, {self._tagged} with tags; {came}; no rule wants them",
            f"the folder was looked at {say_age(self.now - self.looked_at)} ago",
            "the endpoint works" if n == 1 else f"all {n} endpoints work" if n else "there is no endpoint to reach",
            "messages wait, none for long" if waits else "nothing waits to be sent",
        )

    @property
    def _tagged(self) -> int:
        """Articles of today that got a tag."""
        overview = self.overview
        return overview.files.get("scored", 0) - sum(overview.abstentions.values()) - overview.untagged

    def headline(self) -> str:
        """Say in one line how it is."""
        if troubles := self.troubles():
            return "something is wrong" if len(troubles) == 1 else f"{len(troubles)} things are wrong"
        if self.matched_today:
            return f"all is well; {_count(self.matched_today, 'match', 'matches')} today"
        return f"a quiet day, but {self.doubts()[0]}" if self.doubts() else "a quiet day you can trust"

    def to_record(self) -> dict[str, object]:
        """Return everything as JSON holds it; instants in UTC."""
        overview = self.overview
        return {
            "at": _instant(self.now),
            "today_since": _instant(self.midnight),
            "headline": self.headline(),
            "is_well": not self.troubles(),
            "troubles": list(self.troubles()),
            "matches_today": self.matched_today,
            "is_quiet": not self.matched_today,
            "trust": list(self.trust()) if not self.matched_today else [],
            "doubts": list(self.doubts()) if not self.matched_today else [],
            "folder": self.folder,
            "looked_at": _instant(self.looked_at),
            "newest_file_at": _instant(overview.newest_file_at),
            "files_today": dict(overview.files),
            "rejections_today": dict(overview.rejections),
            "abstentions_today": dict(overview.abstentions),
            "untagged_today": overview.untagged,
            "model": overview.model,
            "rules": [
                {
                    "rule": name,
                    "today": counts.today,
                    "week": counts.week,
                    "sent": counts.sent,
                    "digests": counts.aside,
                    "held": counts.held,
                }
                for name, counts in self.rules.items()
            ],
            "endpoints": [
                {
                    "endpoint": item.id,
                    "in_settings": item.is_named,
                    "state": str(item.health.state),
                    "reason": item.health.reason,
                    "delivered_at": _instant(item.health.delivered_at),
                    "paused_until": _instant(item.health.paused_until),
                    "pending": item.pending,
                    "oldest_due_s": round(item.oldest_due_s, 1),
                    "dead": item.dead,
                }
                for item in self.endpoints
            ],
            "held_back": dict(self.held_back),
            "feedback_week": dict(overview.feedback),
        }


def _troubles_of(endpoint: EndpointStatus) -> list[str]:
    found = []
    if not endpoint.is_named:
        if endpoint.pending:
            verb = "waits" if endpoint.pending == 1 else "wait"
            waiting = f"{_count(endpoint.pending, 'message')} {verb} for {endpoint.id}"
            found.append(f"{waiting}, which is not in the settings")
        return found
    if endpoint.health.state is not EndpointState.WORKING:
        state = str(endpoint.health.state).replace("_", " ")
        found.append(f"endpoint {endpoint.id} is {state}: {endpoint.health.reason}")
    elif endpoint.oldest_due_s > LATE_S:
        age = say_age(dt.timedelta(seconds=endpoint.oldest_due_s))
        found.append(f"a message for {endpoint.id} has been due for {age}")
    if endpoint.dead:
        verb = "is" if endpoint.dead == 1 else "are"
        found.append(f"{_count(endpoint.dead, 'message')} for {endpoint.id} {verb} dead; see `classifier outbox list`")
    return found


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def say_age(age: dt.timedelta) -> str:
    """
    Return a stretch of time in one short word; what the clock says is to come has just been.

    >>> [say_age(dt.timedelta(seconds=s)) for s in (-3, 42, 150, 9_000, 200_000)]
    ['0 s', '42 s', '2 min', '2 h', '2 days']
    """
    seconds = max(0.0, age.total_seconds())
    for limit, unit, name in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds // 86_400)} days"


def _instant(moment: dt.datetime | None) -> str | None:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
