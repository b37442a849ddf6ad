"""The books: whether everything adds up, and what was scored in the past."""

import datetime as dt
import json
from collections.abc import Sequence

import sqlalchemy as sa

from classifier.adapters.ledger.schema import UtcDateTime, articles, aside, files, held, matches, outbox
from classifier.backtest import Past
from classifier.ports import Audit
from classifier.tags import Abstention, Band, Tag, Tags


def audit(connection: sa.Connection) -> Audit:
    """Count everything and check that it adds up."""

    def counts(connection: sa.Connection, column: sa.Column[str]) -> dict[str, int]:
        query = sa.select(column, sa.func.count()).where(column.is_not(None)).group_by(column).order_by(column)
        return {str(value): int(count) for value, count in connection.execute(query)}

    damage = _damage(connection)
    by_state, by_reason = counts(connection, files.c.state), counts(connection, files.c.reason)
    messages = counts(connection, outbox.c.state)
    n_held = connection.scalar(sa.select(sa.func.count()).select_from(held)) or 0
    in_digests = sa.func.count(aside.c.message_id)
    n_aside, n_in_digests = connection.execute(sa.select(sa.func.count() - in_digests, in_digests)).one()
    n_digests = n_aside + n_in_digests
    n_articles = connection.scalar(sa.select(sa.func.count()).select_from(articles)) or 0
    n_matches = connection.scalar(sa.select(sa.func.count()).select_from(matches)) or 0
    n_alerts = connection.scalar(sa.select(sa.func.count()).where(outbox.c.article_id.is_not(None))) or 0
    sums = (sa.func.coalesce(sa.func.sum(column), 0) for column in (matches.c.n_messages, matches.c.n_endpoints))
    expected, n_endpoints = connection.execute(sa.select(*sums)).one()
    stuck = connection.scalar(
        sa.select(sa.func.count())
        .select_from(outbox)
        .where((outbox.c.state == "pending") != outbox.c.due_at.is_not(None))
    )
    checks = (
        (
            by_state.get("scored", 0) == n_articles,
            f"{by_state.get('scored', 0)} files are scored but {n_articles} articles are stored",
        ),
        (
            n_alerts == expected,
            f"the matches asked for {expected} messages but {n_alerts} are stored",
        ),
        (
            n_endpoints == expected + n_held + n_digests,
            f"the matches are for {n_endpoints} endpoints but {expected} sent, {n_held} held, {n_digests} for digests",
        ),
        (not stuck, f"{stuck} messages are neither due nor settled"),
        (not damage, f"the database is damaged: {damage}"),
    )
    return Audit(
        files=by_state,
        rejections=by_reason,
        articles=n_articles,
        matches=n_matches,
        messages=messages,
        held=n_held,
        aside=n_aside,
        in_digests=n_in_digests,
        faults=tuple(fault for is_fine, fault in checks if not is_fine),
    )


def history(connection: sa.Connection, since: dt.datetime | None) -> Sequence[Past]:
    """Return the articles scored from *since* on, oldest first, with the tags they got; texts are not kept."""
    query = sa.select(articles).order_by(articles.c.scored_at, articles.c.id)
    if since is not None:
        query = query.where(articles.c.scored_at >= since)
    return [
        Past(
            article_id=row.id,
            title=row.title,
            at=row.scored_at,
            tags=read_tags(row.tags, row.abstained),
            text="",
            model=row.model,
            story_id=row.story_id,
        )
        for row in connection.execute(query)
    ]


def newest_file_at(connection: sa.Connection) -> dt.datetime | None:
    """Return when the last file got its verdict; None when none ever did."""
    found: dt.datetime | None = connection.scalar(sa.select(sa.func.max(files.c.recorded_at, type_=UtcDateTime)))
    return found


def read_tags(text: str, abstained: str | None) -> Tags:
    """Return the tags that `articles.tags` and `articles.abstained` hold."""
    by_facet = {
        facet: tuple(Tag(record["label"], record["score"], Band(record["band"])) for record in records)
        for facet, records in json.loads(text).items()
    }
    return Tags(by_facet, Abstention(abstained) if abstained else None)


def _damage(connection: sa.Connection) -> str:
    """Return what SQLite finds wrong with its file; nothing when that is nothing, or the database is another one."""
    if connection.dialect.name != "sqlite":
        return ""
    found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    return "" if found == "ok" else found
