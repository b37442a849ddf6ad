"""
What becomes of one alert for one endpoint.

    News + Silences --route--> Send | Hold

Keeps: pure; every alert of every endpoint ends as exactly one of these, and each is a row of the ledger.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from classifier.payloads.summaries import News, Summary
from classifier.rules import Match
from classifier.silences import Silence


@dataclass(frozen=True, slots=True)
class Send:
    """
    A message of its own.

    Attributes:
        not_before: aware, UTC: it waits until then; None when it need not.
    """

    not_before: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Hold:
    """
    Nobody is told.

    Attributes:
        silence: which one holds it back; None when the endpoint has been told already.
    """

    silence: Silence | None


Route = Send | Hold


def route(
    match: Match,
    summary: Summary,
    added: News | None,
    endpoint_id: str,
    story_id: str,
    silences: Sequence[Silence],
    text: Callable[[], str],
) -> Route:
    """
    Decide what becomes of an alert.

    Args:
        match: what it is about.
        summary: what there is to say.
        added: what it is to this endpoint; None when it is no news.
        endpoint_id: whom it is for.
        story_id: of the article.
        silences: those in force.
        text: gives the article's title and text.
    """
    if added is None:
        return Hold(None)
    is_news = added.kind != "report"
    for silence in silences:
        if silence.holds(summary, endpoint_id, story_id, text, is_news=is_news):
            return Hold(silence)
    return Send(match.not_before)
