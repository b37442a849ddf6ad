"""What is forgotten, bit by bit, so that the ledger stays small and the books still add up."""

import datetime as dt

import sqlalchemy as sa

from classifier.adapters.ledger.database import Turn, has_turn
from classifier.adapters.ledger.schema import (
    IS_OPEN,
    aside,
    attempts,
    bands,
    file_claims,
    files,
    fresh,
    held,
    matches,
    outbox,
    tellings,
    told,
)
from classifier.ports import Retention
from classifier.stories import Signature

PRUNE_ROWS = 1_000  # forgotten in one transaction: others wait no longer than that takes
_LONG_OVER = dt.timedelta(days=1)
_IS_FORGETTABLE = files.c.state != "scored"  # a scored one is what the audit counts articles by


def prune(connection: sa.Connection, limits: Retention, now: dt.datetime) -> int:
    """
    Forget at most `PRUNE_ROWS` of each kind of what is older than *retention* says; return how many.

    Nothing when another daemon is at it.
    """
    if not has_turn(connection, Turn.PRUNE):
        return 0
    old_records = now - limits.records
    forgotten = _forget_bodies(connection, now - limits.bodies)
    forgotten += _delete(connection, attempts, _old_attempts(now - limits.attempts))
    forgotten += _delete(connection, files, _IS_FORGETTABLE & (files.c.recorded_at < old_records))
    forgotten += _forget_matches(connection, old_records)
    forgotten += _forget_digests(connection, old_records)
    forgotten += _forget_stories(connection, now - limits.stories)
    # Of files that were gone before anybody read them, taken by a daemon that was gone as well.
    forgotten += connection.execute(file_claims.delete().where(file_claims.c.until < now - _LONG_OVER)).rowcount
    return forgotten


def _delete(connection: sa.Connection, table: sa.Table, which: sa.ColumnElement[bool]) -> int:
    some = sa.select(table.c.id).where(which).limit(PRUNE_ROWS).scalar_subquery()
    return connection.execute(table.delete().where(table.c.id.in_(some))).rowcount


def _old_attempts(before: dt.datetime) -> sa.ColumnElement[bool]:
    of_delivered = sa.exists().where((outbox.c.id == attempts.c.message_id) & (outbox.c.state == "delivered"))
    return (attempts.c.tried_at < before) & of_delivered


def _forget_bodies(connection: sa.Connection, before: dt.datetime) -> int:
    which = (outbox.c.settled_at < before) & (outbox.c.state == "delivered") & (sa.func.length(outbox.c.body) > 0)
    ids = list(connection.scalars(sa.select(outbox.c.id).where(which).limit(PRUNE_ROWS)))
    connection.execute(aside.update().where(aside.c.message_id.in_(ids)).values(summary=""))
    return connection.execute(outbox.update().where(outbox.c.id.in_(ids)).values(body=b"")).rowcount


def _forget_matches(connection: sa.Connection, before: dt.datetime) -> int:
    """Delete old matches together with their messages and tries, so that the books still add up."""
    of_match = (outbox.c.article_id == matches.c.article_id) & (outbox.c.rule_id == matches.c.rule_id)
    some = (
        sa.select(matches.c.article_id, matches.c.rule_id)
        .where((matches.c.created_at < before) & ~sa.exists().where(of_match & IS_OPEN) & ~_has_open_digest())
        .limit(PRUNE_ROWS)
    )
    forgotten = 0
    for article_id, rule_id in connection.execute(some).all():
        of_this = (outbox.c.article_id == article_id) & (outbox.c.rule_id == rule_id)
        messages = sa.select(outbox.c.id).where(of_this).scalar_subquery()
        connection.execute(attempts.delete().where(attempts.c.message_id.in_(messages)))
        connection.execute(outbox.delete().where(of_this))
        connection.execute(held.delete().where((held.c.article_id == article_id) & (held.c.rule_id == rule_id)))
        connection.execute(aside.delete().where((aside.c.article_id == article_id) & (aside.c.rule_id == rule_id)))
        of_this = (matches.c.article_id == article_id) & (matches.c.rule_id == rule_id)
        forgotten += connection.execute(matches.delete().where(of_this)).rowcount
    return forgotten


def _has_open_digest() -> sa.ColumnElement[bool]:
    """Return what holds for matches with an alert that waits for a digest, or is in one that is not delivered."""
    of_match = (aside.c.article_id == matches.c.article_id) & (aside.c.rule_id == matches.c.rule_id)
    delivered = sa.exists().where((outbox.c.id == aside.c.message_id) & (outbox.c.state == "delivered"))
    return sa.exists().where(of_match & ~delivered)


def _forget_digests(connection: sa.Connection, before: dt.datetime) -> int:
    """Delete old messages that are of no match: digests whose alerts are forgotten, and notices."""
    is_empty = ~sa.exists().where(aside.c.message_id == outbox.c.id)
    is_old = (outbox.c.settled_at < before) & (outbox.c.state == "delivered") & outbox.c.article_id.is_(None)
    ids = list(connection.scalars(sa.select(outbox.c.id).where(is_old & is_empty).limit(PRUNE_ROWS)))
    connection.execute(attempts.delete().where(attempts.c.message_id.in_(ids)))
    return connection.execute(outbox.delete().where(outbox.c.id.in_(ids))).rowcount


def _forget_stories(connection: sa.Connection, before: dt.datetime) -> int:
    """Delete what newer articles are no longer compared with; which story an article belongs to is kept."""
    old = sa.select(tellings.c.id, tellings.c.signature).where(tellings.c.seen_at < before).limit(PRUNE_ROWS)
    rows = connection.execute(old).all()
    for row in rows:
        mine = bands.c.band.in_(Signature(row.signature).bands) & (bands.c.telling_id == row.id)
        connection.execute(bands.delete().where(mine))
        connection.execute(fresh.delete().where(fresh.c.telling_id == row.id))
        connection.execute(tellings.delete().where(tellings.c.id == row.id))
    return len(rows) + connection.execute(told.delete().where(told.c.told_at < before)).rowcount
