"""What can be seen at a glance: today and the last days, and which stories were told."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from classifier.adapters.ledger.database import insert_new
from classifier.adapters.ledger.schema import (
    UtcDateTime,
    articles,
    aside,
    feedback,
    files,
    held,
    marks,
    matches,
    outbox,
    tellings,
)
from classifier.adapters.ledger.silences import stories_named
from classifier.status import Overview, RuleCounts
from classifier.telling import StoryMember, StoryRow, ToldAlert

MAX_MEMBERS = 1_000  # articles of one story that are shown


def mark(connection: sa.Connection, name: str, at: dt.datetime) -> None:
    """Remember when something happened last."""
    insert_new(connection, marks, {"name": name, "at": at})
    connection.execute(marks.update().where(marks.c.name == name).values(at=at))


def scan_mark(folder_name: str) -> str:
    """Return what the end of a scan of a folder is called."""
    return f"scan {folder_name}"


def overview(connection: sa.Connection, folder_name: str, midnight: dt.datetime, week: dt.datetime) -> Overview:
    """Return what happened since *midnight*, and since *week*; when the folder of this name was looked at."""
    mine = files.c.path.startswith(f"{folder_name}/", autoescape=True) if folder_name else sa.true()
    newest_file = sa.select(files.c.recorded_at).where(mine).order_by(files.c.recorded_at.desc()).limit(1)
    today = files.c.recorded_at >= midnight
    silent = (
        sa.select(articles.c.abstained, sa.func.count())
        .join(files, files.c.article_id == articles.c.id)
        .where(today & (files.c.state == "scored") & articles.c.story_id.is_(None))
        .group_by(articles.c.abstained)
    )
    abstentions: dict[str | None, int] = dict(connection.execute(silent).all())
    newest = (
        sa.select(articles.c.model)
        .join(files, files.c.article_id == articles.c.id)
        .where(files.c.state == "scored")
        .order_by(files.c.recorded_at.desc(), files.c.id.desc())
        .limit(1)
    )
    said = (
        sa.select(feedback.c.verdict, sa.func.count())
        .where(feedback.c.given_at >= week)
        .group_by(feedback.c.verdict)
        .order_by(feedback.c.verdict)
    )
    return Overview(
        scan_at=connection.scalar(sa.select(marks.c.at).where(marks.c.name == scan_mark(folder_name))),
        newest_file_at=connection.scalar(newest_file),
        model=connection.scalar(newest),
        files=_counts(connection, files.c.state, today),
        rejections=_counts(connection, files.c.reason, today & files.c.reason.is_not(None)),
        abstentions={reason: count for reason, count in sorted(abstentions.items(), key=str) if reason is not None},
        untagged=abstentions.get(None, 0),
        rules=_rules(connection, midnight, week),
        feedback=dict(connection.execute(said).all()),
    )


def _counts(connection: sa.Connection, column: sa.Column[str], which: sa.ColumnElement[bool]) -> dict[str, int]:
    query = sa.select(column, sa.func.count()).where(which).group_by(column).order_by(column)
    return {str(value): int(count) for value, count in connection.execute(query)}


def _rules(connection: sa.Connection, midnight: dt.datetime, week: dt.datetime) -> dict[str, RuleCounts]:
    is_today = sa.case((matches.c.created_at >= midnight, 1), else_=0)
    met = (
        sa.select(
            matches.c.rule_id,
            sa.func.sum(is_today).label("today"),
            sa.func.count().label("week"),
            sa.func.sum(matches.c.n_messages).label("sent"),
        )
        .where(matches.c.created_at >= week)
        .group_by(matches.c.rule_id)
        .order_by(matches.c.rule_id)
    )
    n_held, n_aside = (_since(connection, table, week) for table in (held, aside))
    return {
        row.rule_id: RuleCounts(
            today=int(row.today),
            week=row.week,
            sent=int(row.sent),
            aside=n_aside.get(row.rule_id, 0),
            held=n_held.get(row.rule_id, 0),
        )
        for row in connection.execute(met)
    }


def _since(connection: sa.Connection, table: sa.Table, week: dt.datetime) -> dict[str, int]:
    """Count the rows of a table by rule."""
    counts = sa.select(table.c.rule_id, sa.func.count()).where(table.c.created_at >= week).group_by(table.c.rule_id)
    return dict(connection.execute(counts).all())


# -- stories ---------------------------------------------------------------------------------------------------------


def stories(connection: sa.Connection, since: dt.datetime, limit: int) -> Sequence[StoryRow]:
    """Return the stories told since then, the one told last first."""
    recent = (
        sa.select(
            tellings.c.story_id,
            sa.func.max(tellings.c.seen_at, type_=UtcDateTime).label("last_at"),
        )
        .where(tellings.c.seen_at >= since)
        .group_by(tellings.c.story_id)
        .order_by(sa.func.max(tellings.c.seen_at).desc(), tellings.c.story_id)
        .limit(limit)
    )
    found = connection.execute(recent).all()
    ids = [row.story_id for row in found]
    told = _story_counts(connection, ids)
    titles = dict(connection.execute(sa.select(articles.c.id, articles.c.title).where(articles.c.id.in_(ids))).all())
    return [
        StoryRow(
            id=row.story_id,
            title=titles.get(row.story_id, ""),
            last_at=row.last_at,
            n_articles=told["articles"].get(row.story_id, 0),
            n_files=told["files"].get(row.story_id, 0),
            n_alerts=told["alerts"].get(row.story_id, 0) + told["aside"].get(row.story_id, 0),
            n_held=told["held"].get(row.story_id, 0),
        )
        for row in found
    ]


def _story_counts(connection: sa.Connection, ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    """Count what belongs to each of these stories, as far as their tellings are kept."""
    mine = tellings.c.story_id.in_(ids)

    def counted(what: sa.ColumnElement[int], other: sa.Table | None = None) -> dict[str, int]:
        query = sa.select(tellings.c.story_id, what)
        if other is not None:
            query = query.join(other, other.c.article_id == tellings.c.article_id)
        return dict(connection.execute(query.where(mine).group_by(tellings.c.story_id)).all())

    return {
        "articles": counted(sa.func.count()),
        "files": counted(sa.func.count(files.c.path.distinct()), files),
        "alerts": counted(sa.func.count(), outbox),
        "aside": counted(sa.func.count(), aside),
        "held": counted(sa.func.count(), held),
    }


def story_members(connection: sa.Connection, name: str) -> Sequence[StoryMember]:
    """Return the articles of the one story that *name* can mean, first told first; none when it is none or several."""
    ids = stories_named(connection, name, limit=2)
    if len(ids) != 1:
        return []
    query = (
        sa.select(articles.c.id, articles.c.title, articles.c.scored_at)
        .where(articles.c.story_id == ids[0])
        .order_by(articles.c.scored_at, articles.c.id)
        .limit(MAX_MEMBERS)
    )
    rows = connection.execute(query).all()
    of_all = [row.id for row in rows]
    paths = _by_article(
        connection.execute(
            sa.select(files.c.article_id, files.c.path)
            .where(files.c.article_id.in_(of_all))
            .order_by(files.c.recorded_at, files.c.id)
        )
    )
    sent = _by_article(
        connection.execute(
            sa.select(outbox.c.article_id, outbox.c.rule_id, outbox.c.endpoint_id, outbox.c.id, outbox.c.state)
            .where(outbox.c.article_id.in_(of_all))
            .order_by(outbox.c.created_at, outbox.c.id)
        )
    )
    put_aside = _by_article(
        connection.execute(
            sa.select(
                aside.c.article_id,
                aside.c.rule_id,
                aside.c.endpoint_id,
                aside.c.alert_id,
                sa.case((aside.c.message_id.is_(None), "waits for a digest"), else_="in a digest"),
            )
            .where(aside.c.article_id.in_(of_all))
            .order_by(aside.c.created_at, aside.c.id)
        )
    )
    kept_back = _by_article(
        connection.execute(
            sa.select(held.c.article_id, held.c.rule_id, held.c.endpoint_id, held.c.reason)
            .where(held.c.article_id.in_(of_all))
            .order_by(held.c.rule_id, held.c.endpoint_id)
        )
    )
    return [
        StoryMember(
            story_id=ids[0],
            article_id=row.id,
            title=row.title,
            at=row.scored_at,
            paths=tuple(dict.fromkeys(path for (path,) in paths.get(row.id, ()))),
            alerts=tuple(
                ToldAlert(rule_id=rule_id, endpoint_id=endpoint_id, alert_id=alert_id, what=state)
                for rule_id, endpoint_id, alert_id, state in [*sent.get(row.id, ()), *put_aside.get(row.id, ())]
            )
            + tuple(
                ToldAlert(rule_id=rule_id, endpoint_id=endpoint_id, alert_id=None, what=reason)
                for rule_id, endpoint_id, reason in kept_back.get(row.id, ())
            ),
        )
        for row in rows
    ]


def _by_article(rows: Iterable[Sequence[str]]) -> dict[str, list[Sequence[str]]]:
    """Return first column to the rest of the rows that begin with it."""
    found: dict[str, list[Sequence[str]]] = {}
    for first, *rest in rows:
        found.setdefault(first, []).append(rest)
    return found
