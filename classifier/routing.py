"""
What becomes of one alert for one endpoint.

    News + Silences + Pace --route--> Send | PutAside | Hold --within_budgets--> Send | PutAside | Hold

Keeps: pure; every alert of every endpoint ends as exactly one of these, and each is a row of the ledger. Quiet hours
have the last word on when a digest is made.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from classifier.pace import Budget, Pace, Schedule
from classifier.payloads.summaries import News, Summary
from classifier.rules import Match
from classifier.silences import Silence

# What was found late is told in one digest; all of a backlog that is read within this time is in it.
CATCH_UP = Schedule(every=dt.timedelta(minutes=5))
AsideReason = Literal["schedule", "quiet", "late", "budget"]


@dataclass(frozen=True, slots=True)
class Send:
    """
    A message of its own.

    Attributes:
        not_before: aware, UTC: it waits until then; None when it need not.
    """

    not_before: dt.datetime | None


@dataclass(frozen=True, slots=True)
class PutAside:
    """
    For a digest.

    Attributes:
        reason: ``schedule`` when that is what the endpoint or the rule wants, ``quiet`` in quiet hours, ``late`` when
            the file was found long after it had come, ``budget`` when there were too many already.
        due_at: aware, UTC: when the digest is made.
    """

    reason: AsideReason
    due_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Hold:
    """
    Nobody is told.

    Attributes:
        silence: which one holds it back; None when the endpoint has been told already.
    """

    silence: Silence | None


Route = Send | PutAside | Hold


@dataclass(frozen=True, slots=True)
class Plan:
    """One alert for one endpoint, and what becomes of it."""

    match: Match
    summary: Summary
    endpoint_id: str
    way: Route


def route(
    match: Match,
    summary: Summary,
    added: News | None,
    endpoint_id: str,
    *,
    story_id: str,
    silences: Sequence[Silence],
    text: Callable[[], str],
    pace: Pace,
    is_late: bool,
    now: dt.datetime,
) -> Route:
    """
    Decide what becomes of an alert, as far as it does not depend on others.

    Args:
        match: what it is about.
        summary: what there is to say.
        added: what it is to this endpoint; None when it is no news.
        endpoint_id: whom it is for.
        story_id: of the article.
        silences: those in force.
        text: gives the article's title and text.
        pace: of the endpoint.
        is_late: the file had come long before it was read.
        now: aware, UTC.
    """
    if added is None:
        return Hold(None)
    is_news = added.kind != "report"
    for silence in silences:
        if silence.holds(summary, endpoint_id, story_id, text, is_news=is_news):
            return Hold(silence)
    first = match.not_before or now
    own = match.rule.pace
    schedule, zone = (own.digest, own.zone or pace.zone) if own.digest else (pace.digest, pace.zone)
    if schedule is not None and not schedule.is_instant:
        return PutAside("schedule", _after_quiet(pace, schedule.next_after(first, zone or dt.UTC)))
    if (ends := _after_quiet(pace, first)) > first:
        return PutAside("quiet", ends)
    if is_late:
        return PutAside("late", _after_quiet(pace, CATCH_UP.next_after(first, dt.UTC)))
    return Send(match.not_before)


def within_budgets(
    plans: Sequence[Plan],
    paces: Mapping[str, Pace],
    made: Callable[[str, dt.datetime, dt.datetime], Mapping[str, int]],
    now: dt.datetime,
) -> list[Plan]:
    """
    Put aside what is beyond the budget of an endpoint, or of a rule for an endpoint: of these alerts the weakest.

    Args:
        plans: alerts that were found together.
        paces: of the endpoints; those that are not here have no budget.
        made: endpoint, first instant and end of a time to how many messages of each rule were made for it then.
        now: aware, UTC.

    Returns:
        As many as *plans*, in the same order.
    """
    decided = list(plans)
    left: dict[tuple[str, str | None], int] = {}
    sent = [i for i, plan in enumerate(plans) if isinstance(plan.way, Send)]
    for i in sorted(sent, key=lambda i: plans[i].summary.strength, reverse=True):
        plan = plans[i]
        pace = paces.get(plan.endpoint_id, Pace())
        budgets = _budgets(plan, pace)
        ends = []
        for key, (budget, zone) in budgets.items():
            start, end = budget.window(now, zone)
            if key not in left:
                counts = made(plan.endpoint_id, start, end)
                left[key] = budget.at_most - (sum(counts.values()) if key[1] is None else counts.get(key[1], 0))
            if left[key] <= 0:
                ends.append(end)
        if ends:
            decided[i] = replace(plan, way=PutAside("budget", _next_digest(pace, max(ends), now)))
            continue
        for key in budgets:
            left[key] -= 1
    return decided


def _budgets(plan: Plan, pace: Pace) -> dict[tuple[str, str | None], tuple[Budget, dt.tzinfo]]:
    """Return the budgets that an alert counts for, by endpoint and, for that of a rule, rule."""
    found: dict[tuple[str, str | None], tuple[Budget, dt.tzinfo]] = {}
    own = plan.match.rule.pace
    if pace.at_most is not None:
        found[plan.endpoint_id, None] = pace.at_most, pace.zone or dt.UTC
    if own.at_most is not None:
        found[plan.endpoint_id, plan.match.rule.id] = own.at_most, own.zone or pace.zone or dt.UTC
    return found


def _next_digest(pace: Pace, end: dt.datetime, now: dt.datetime) -> dt.datetime:
    """Return when an endpoint's next digest is made: at the end of the budget's time when it has none of its own."""
    has_own = pace.digest is not None and not pace.digest.is_instant
    due_at = pace.digest.next_after(now, pace.zone or dt.UTC) if pace.digest is not None and has_own else end
    return _after_quiet(pace, due_at)


def _after_quiet(pace: Pace, moment: dt.datetime) -> dt.datetime:
    return (pace.quiet.closes(moment) or moment) if pace.quiet is not None else moment
