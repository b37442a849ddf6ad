"""Silences, and what they hold back."""

import datetime as dt
import json
from collections.abc import Sequence

import sqlalchemy as sa

from classifier.adapters.ledger.schema import articles, aside, files, held, outbox, silences, tellings
from classifier.literals import parse_literal
from classifier.payloads.summaries import parse_summary
from classifier.ports import HeldRow
from classifier.silences import Silence
from classifier.telling import unpack


def in_force(connection: sa.Connection, now: dt.datetime) -> Sequence[Silence]:
    """Return the silences that have not ended, oldest first."""
    query = sa.select(silences).where(silences.c.until > now).order_by(silences.c.id)
    return [_read(row) for row in connection.execute(query)]


def add(connection: sa.Connection, silence: Silence) -> tuple[Silence, int]:
    """Store a silence, hold back what waits for a digest and meets it; return it with its number, and how many."""
    row = {
        "reason": silence.reason,
        "until": silence.until,
        "rule_id": silence.rule_id,
        "label": silence.label,
        "story_id": silence.story_id,
        "keyword": silence.keyword.text if silence.keyword else None,
        "endpoint_id": silence.endpoint_id,
        "created_at": silence.created_at,
    }
    stored = connection.execute(silences.insert().returning(silences), row).one()
    silence = _read(stored)
    return silence, _hold_waiting(connection, silence)


def _hold_waiting(connection: sa.Connection, silence: Silence) -> int:
    """Hold back of the alerts that wait for a digest those that a silence names; return how many."""
    of_article = tellings.c.article_id == aside.c.article_id
    query = sa.select(aside, tellings.c.packed).outerjoin(tellings, of_article).where(aside.c.message_id.is_(None))
    for column, value in ((aside.c.rule_id, silence.rule_id), (aside.c.endpoint_id, silence.endpoint_id)):
        query = query if value is None else query.where(column == value)
    rows = [row for row in connection.execute(query.with_for_update(of=aside)) if _meets(silence, row)]
    for row in rows:
        mine = {"article_id": row.article_id, "rule_id": row.rule_id, "endpoint_id": row.endpoint_id}
        why = {"reason": "silenced", "silence_id": silence.id, "created_at": silence.created_at}
        connection.execute(held.insert(), mine | why)
        connection.execute(aside.delete().where(aside.c.id == row.id))
    return len(rows)


def _meets(silence: Silence, row: sa.Row[tuple[object, ...]]) -> bool:
    values = row._mapping  # noqa: SLF001 - public in SQLAlchemy, in spite of its name
    summary = parse_summary(json.loads(values["summary"]), values["created_at"])
    packed = values["packed"]  # of a text that is forgotten no word is known

    def text() -> str:
        return unpack(packed) if packed is not None else ""

    is_news = summary.news is not None and summary.news.kind != "report"
    story_id = values["story_id"] or values["article_id"]
    return silence.holds(summary, values["endpoint_id"], story_id, text, is_news=is_news)


def end(connection: sa.Connection, silence_id: int, now: dt.datetime) -> bool:
    """End a silence now; False when there is none of this number in force."""
    mine = (silences.c.id == silence_id) & (silences.c.until > now)
    return connection.execute(silences.update().where(mine).values(until=now)).rowcount == 1


def listed(connection: sa.Connection) -> Sequence[tuple[Silence, int]]:
    """Return every silence, the newest first, with how many alerts it held back."""
    counts = (
        sa.select(held.c.silence_id, sa.func.count().label("n"))
        .where(held.c.silence_id.is_not(None))
        .group_by(held.c.silence_id)
        .subquery()
    )
    query = (
        sa.select(silences, sa.func.coalesce(counts.c.n, 0).label("n_held"))
        .outerjoin(counts, counts.c.silence_id == silences.c.id)
        .order_by(silences.c.id.desc())
    )
    return [(_read(row), row.n_held) for row in connection.execute(query)]


def held_back(connection: sa.Connection, reason: str, silence_id: int | None, limit: int) -> Sequence[HeldRow]:
    """Return what was held back for a reason, by one silence or any, the newest first."""
    query = (
        sa.select(held, articles.c.title, articles.c.story_id)
        .join(articles, articles.c.id == held.c.article_id)
        .where(held.c.reason == reason)
        .order_by(held.c.created_at.desc(), held.c.article_id, held.c.rule_id, held.c.endpoint_id)
        .limit(limit)
    )
    if silence_id is not None:
        query = query.where(held.c.silence_id == silence_id)
    return [
        HeldRow(
            article_id=row.article_id,
            title=row.title,
            story_id=row.story_id,
            rule_id=row.rule_id,
            endpoint_id=row.endpoint_id,
            silence_id=row.silence_id,
            held_at=row.created_at,
        )
        for row in connection.execute(query)
    ]


def stories_named(connection: sa.Connection, name: str, limit: int) -> Sequence[str]:
    """Return the stories that *name* can mean: the beginning of an id, a webhook-id, or the name of a file."""
    found: set[str] = set()
    of_message = sa.select(outbox.c.article_id).where(outbox.c.id == name)
    of_file = sa.select(files.c.article_id).where(files.c.path == name)
    for which in (
        articles.c.story_id.startswith(name, autoescape=True),
        articles.c.id.in_(of_message),
        articles.c.id.in_(of_file),
    ):
        query = sa.select(articles.c.story_id).where(which & articles.c.story_id.is_not(None)).distinct().limit(limit)
        found.update(connection.scalars(query))
    return sorted(found)


def _read(row: sa.Row[tuple[object, ...]]) -> Silence:
    values = row._mapping  # noqa: SLF001 - public in SQLAlchemy, in spite of its name
    return Silence(
        id=values["id"],
        reason=values["reason"],
        until=values["until"],
        rule_id=values["rule_id"],
        label=values["label"],
        story_id=values["story_id"],
        keyword=parse_literal(values["keyword"]) if values["keyword"] is not None else None,
        endpoint_id=values["endpoint_id"],
        created_at=values["created_at"],
    )
