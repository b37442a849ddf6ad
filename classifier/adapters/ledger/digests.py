"""Alerts put aside for digests, and digests made of them: each alert is in exactly one."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from classifier.adapters.ledger.deliveries import CLOCK_SLACK, is_closed
from classifier.adapters.ledger.schema import UtcDateTime, articles, aside, outbox, outbox_row
from classifier.alerts import MessageId, message_id
from classifier.delivery import Message
from classifier.payloads.summaries import parse_summary, summary_record
from classifier.ports import Aside, AsideRow, DueDigest, Scored

_MAX_IN = 1_000  # values named in one statement; every database takes so many


def aside_row(scored: Scored, item: Aside, now: dt.datetime) -> dict[str, object]:
    """Return a new row of an alert that is put aside."""
    is_sure, score = item.summary.strength
    return {
        "article_id": scored.article.id,
        "rule_id": item.rule_id,
        "endpoint_id": item.endpoint_id,
        "story_id": scored.story_id,
        "alert_id": message_id(scored.article.id, item.rule_id, item.endpoint_id),
        "summary": json.dumps(summary_record(item.summary), separators=(",", ":")),
        "strength": is_sure + score,
        "reason": item.reason,
        "due_at": item.due_at,
        "created_at": now,
    }


def made(connection: sa.Connection, endpoint_id: str, start: dt.datetime, end: dt.datetime) -> Mapping[str, int]:
    """Count the alerts made for an endpoint from *start* on and before *end*, by rule."""
    of_time = (outbox.c.created_at >= start) & (outbox.c.created_at < end)
    query = (
        sa.select(outbox.c.rule_id, sa.func.count())
        .where((outbox.c.endpoint_id == endpoint_id) & of_time & outbox.c.article_id.is_not(None))
        .group_by(outbox.c.rule_id)
    )
    return {rule_id: count for rule_id, count in connection.execute(query)}  # noqa: C416 - rows are no pairs to mypy


def due(connection: sa.Connection, endpoint_id: str, now: dt.datetime, limit: int) -> DueDigest | None:
    """Return what goes into the digest of an endpoint that is to be made now; None when there is none."""
    mine = _is_due(endpoint_id, now)
    which = mine & ~is_closed(endpoint_id, now)
    over = sa.case((aside.c.reason == "budget", 1), else_=0)
    query = sa.select(
        sa.func.count(), sa.func.max(aside.c.id), sa.func.min(aside.c.created_at, type_=UtcDateTime), sa.func.sum(over)
    )
    n_alerts, last_id, since, n_over_budget = connection.execute(query.where(which)).one()
    if not n_alerts:
        return None
    strongest = sa.select(aside).where(mine).order_by(aside.c.strength.desc(), aside.c.id).limit(limit)
    return DueDigest(
        endpoint_id=endpoint_id,
        at=now,
        last_id=last_id,
        n_alerts=n_alerts,
        n_over_budget=n_over_budget,
        since=since,
        strongest=tuple(
            (parse_summary(json.loads(row.summary), row.created_at), row.story_id or row.article_id)
            for row in connection.execute(strongest)
        ),
    )


def close(connection: sa.Connection, digest: DueDigest, message: Message, now: dt.datetime) -> bool:
    """Put *message* into the outbox and its alerts into it; False, and nothing stored, when others were at it."""
    which = _is_due(digest.endpoint_id, digest.at) & (aside.c.id <= digest.last_id)
    ids = list(connection.scalars(sa.select(aside.c.id).where(which).order_by(aside.c.id).with_for_update()))
    if len(ids) != digest.n_alerts:  # another one has made a digest of them, or more have come
        return False
    connection.execute(outbox.insert(), outbox_row(message, None, now))
    for start in range(0, len(ids), _MAX_IN):
        some = aside.c.id.in_(ids[start : start + _MAX_IN])
        connection.execute(aside.update().where(some).values(message_id=message.id))
    return True


def listed(connection: sa.Connection, endpoint_id: str | None, limit: int, *, is_made: bool) -> Sequence[AsideRow]:
    """Return the alerts that wait for a digest, those due first first; or, the newest first, those that are in one."""
    query = sa.select(aside, articles.c.title).join(articles, articles.c.id == aside.c.article_id).limit(limit)
    if is_made:
        query = query.where(aside.c.message_id.is_not(None)).order_by(aside.c.id.desc())
    else:
        query = query.where(aside.c.message_id.is_(None)).order_by(aside.c.due_at, aside.c.strength.desc(), aside.c.id)
    if endpoint_id is not None:
        query = query.where(aside.c.endpoint_id == endpoint_id)
    return [
        AsideRow(
            article_id=row.article_id,
            title=row.title,
            story_id=row.story_id,
            rule_id=row.rule_id,
            endpoint_id=row.endpoint_id,
            reason=row.reason,
            due_at=row.due_at,
            created_at=row.created_at,
            message_id=MessageId(row.message_id) if row.message_id else None,
        )
        for row in connection.execute(query)
    ]


def _is_due(endpoint_id: str, now: dt.datetime) -> sa.ColumnElement[bool]:
    return (
        (aside.c.endpoint_id == endpoint_id)
        & aside.c.message_id.is_(None)
        & ((aside.c.due_at <= now) | (aside.c.created_at > now + CLOCK_SLACK))
    )
