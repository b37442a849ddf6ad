"""The outbox: messages claimed under a lease with a token, settled once, tried again when somebody asks for it."""

import datetime as dt
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sa

from classifier.adapters.ledger.database import insert_new
from classifier.adapters.ledger.endpoint_states import health
from classifier.adapters.ledger.schema import (
    IS_OPEN,
    MAX_DETAIL,
    UtcDateTime,
    aside,
    attempts,
    endpoints,
    outbox,
    rates,
)
from classifier.alerts import MessageId
from classifier.delivery import Dead, Delivered, EndpointState, Message, Outcome, Rate, RetryAt, Step
from classifier.ports import Claim, OutboxRow, Queue

CLOCK_SLACK = dt.timedelta(seconds=60)  # a clock set back by less is waited for


def due_in_s(connection: sa.Connection, endpoint_id: str, now: dt.datetime, rate: Rate | None) -> float | None:
    """Return how many seconds *rate* keeps a due message of an endpoint waiting; None when none is due."""
    if connection.scalar(sa.select(sa.literal(1)).where(_is_due(endpoint_id, now)).limit(1)) is None:
        return None
    if rate is None:
        return 0.0
    used_until = sa.select(rates.c.used_until).where(rates.c.endpoint_id == endpoint_id)
    return rate.wait_s(connection.scalar(used_until), now)


def claim(
    connection: sa.Connection, endpoint_id: str, now: dt.datetime, lease: dt.timedelta, rate: Rate | None
) -> Claim | None:
    """Take the message of one endpoint that has been due longest, if any, for the time of *lease*, if *rate* allows."""
    used_until = _used_until(connection, endpoint_id, now) if rate else None
    if rate and rate.wait_s(used_until, now):
        return None
    first = (
        sa.select(outbox)
        .where(_is_due(endpoint_id, now))
        .order_by(outbox.c.due_at, outbox.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(first).one_or_none()
    if row is None:
        return None
    token = secrets.token_hex(16)
    leased = {"token": token, "due_at": now + lease, "scheduled_at": now}
    connection.execute(outbox.update().where(outbox.c.id == row.id).values(**leased))
    if rate:
        level = rate.count(used_until, now)
        connection.execute(rates.update().where(rates.c.endpoint_id == endpoint_id).values(used_until=level))
    message = Message(id=MessageId(row.id), endpoint_id=row.endpoint_id, rule_id=row.rule_id, body=row.body)
    return Claim(
        message=message,
        attempts=row.attempts - row.attempts_before_retry,
        token=token,
        health=health(connection, endpoint_id),
    )


def turn(connection: sa.Connection, endpoint_id: str, now: dt.datetime, rate: Rate) -> float:
    """Count a try that is no message's against *rate* and return 0; or return how many seconds it must wait."""
    used_until = _used_until(connection, endpoint_id, now)
    if seconds := rate.wait_s(used_until, now):
        return seconds
    level = rate.count(used_until, now)
    connection.execute(rates.update().where(rates.c.endpoint_id == endpoint_id).values(used_until=level))
    return 0.0


def _used_until(connection: sa.Connection, endpoint_id: str, now: dt.datetime) -> dt.datetime:
    """Return until when the rate of an endpoint is used up; nobody else tries it before this transaction ends."""
    mine = sa.select(rates.c.used_until).where(rates.c.endpoint_id == endpoint_id).with_for_update()
    found: dt.datetime | None = connection.scalar(mine)
    if found is None:
        insert_new(connection, rates, {"endpoint_id": endpoint_id, "used_until": now})
        found = connection.scalar(mine)
    return found or now


def settle(
    connection: sa.Connection,
    claim: Claim,
    outcome: Outcome,
    step: Step,
    now: dt.datetime,
) -> bool:
    """Store what one try came to; False, and nothing stored, when somebody else took over."""
    change: dict[str, object]
    match step:
        case Delivered():
            change = {"state": "delivered", "due_at": None, "settled_at": now}
        case RetryAt():
            change = {"due_at": step.at}
        case Dead():
            change = {"state": "dead", "due_at": None, "settled_at": now}
    detail = outcome.detail[:MAX_DETAIL]
    change |= {
        "token": None,
        "scheduled_at": now,
        "attempts": outbox.c.attempts + 1,
        "last_result": str(outcome.result),
        "last_detail": detail,
    }
    tried = {
        "message_id": claim.message.id,
        "result": str(outcome.result),
        "status": outcome.status,
        "detail": detail,
        "tried_at": now,
    }
    mine = (outbox.c.id == claim.message.id) & (outbox.c.token == claim.token)
    if connection.execute(outbox.update().where(mine).values(**change)).rowcount != 1:
        return False
    connection.execute(attempts.insert(), tried)
    return True


def backlog(connection: sa.Connection) -> Mapping[str, Mapping[str, int]]:
    """Count messages by endpoint and state, and alerts that wait for a digest as ``aside``."""
    query = sa.select(outbox.c.endpoint_id, outbox.c.state, sa.func.count()).group_by(
        outbox.c.endpoint_id, outbox.c.state
    )
    counts: dict[str, dict[str, int]] = {}
    for endpoint_id, state, count in connection.execute(query):
        counts.setdefault(endpoint_id, {})[state] = count
    for endpoint_id, count in _aside(connection).items():
        counts.setdefault(endpoint_id, {})["aside"] = count
    return counts


def listed(connection: sa.Connection, states: Sequence[str], limit: int) -> Sequence[OutboxRow]:
    """Return messages in these states, newest first."""
    query = (
        sa.select(outbox)
        .where(outbox.c.state.in_(states))
        .order_by(outbox.c.created_at.desc(), outbox.c.id)
        .limit(limit)
    )
    return [
        OutboxRow(
            id=MessageId(row.id),
            rule_id=row.rule_id,
            endpoint_id=row.endpoint_id,
            state=row.state,
            attempts=row.attempts,
            next_attempt_at=row.due_at,
            last_result=row.last_result,
            last_detail=row.last_detail,
            created_at=row.created_at,
        )
        for row in connection.execute(query)
    ]


def retry(connection: sa.Connection, ids: Sequence[MessageId] | None, now: dt.datetime) -> int:
    """Make dead messages due again, all or those named, with a fresh schedule; return how many."""
    which = outbox.c.state == "dead"
    if ids is not None:
        which &= outbox.c.id.in_(ids)
    return _make_due(connection, which, now)


def recover(connection: sa.Connection, endpoint_id: str | None, since: dt.datetime, now: dt.datetime) -> int:
    """Make every message made at *since* or later and not delivered due now, in the order they were made in."""
    which = outbox.c.state.in_(["pending", "dead"]) & outbox.c.token.is_(None) & (outbox.c.created_at >= since)
    if endpoint_id is not None:
        which &= outbox.c.endpoint_id == endpoint_id
    return _make_due(connection, which, now)


def _make_due(connection: sa.Connection, which: sa.ColumnElement[bool], now: dt.datetime) -> int:
    fresh = {
        "state": "pending",
        "due_at": outbox.c.created_at,  # all are due, and those made first are due longest
        "scheduled_at": now,
        "settled_at": None,
        "attempts_before_retry": outbox.c.attempts,
    }
    return connection.execute(outbox.update().where(which).values(**fresh)).rowcount


def queues(connection: sa.Connection, now: dt.datetime) -> Mapping[str, Queue]:
    """Return what waits, by endpoint; an endpoint for which nothing does is no key."""
    # A message that was made due again stands at the time it was made; it has been due since that was decided.
    since = sa.case((outbox.c.due_at < outbox.c.scheduled_at, outbox.c.scheduled_at), else_=outbox.c.due_at)
    query = (  # of index ix_outbox_due alone: asked every few seconds, it must not read the bodies
        sa.select(
            outbox.c.endpoint_id,
            sa.func.count(),
            sa.func.min(since, type_=UtcDateTime),
            sa.func.sum(sa.case((_is_time(now), 1), else_=0)),
        )
        .where(outbox.c.due_at.is_not(None))
        .group_by(outbox.c.endpoint_id)
    )
    found = {
        endpoint_id: Queue(pending=pending, oldest_due_s=max(0.0, (now - due_at).total_seconds()), due=int(due))
        for endpoint_id, pending, due_at, due in connection.execute(query)
    }
    for endpoint_id, count in _aside(connection).items():
        found[endpoint_id] = replace(found.get(endpoint_id, Queue()), aside=count)
    return found


def _aside(connection: sa.Connection) -> Mapping[str, int]:
    """Count the alerts that wait for a digest, by endpoint; those that are in one are not looked at."""
    query = sa.select(aside.c.endpoint_id, sa.func.count()).where(aside.c.message_id.is_(None))
    return dict(connection.execute(query.group_by(aside.c.endpoint_id)).all())


def waiting(connection: sa.Connection, limit: int) -> int:
    """Count the messages that are not delivered, dead ones included; no further than *limit*."""
    some = sa.select(sa.literal(1)).where(IS_OPEN).limit(limit).subquery()
    return connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0


def is_closed(endpoint_id: str, now: dt.datetime) -> sa.ColumnElement[bool]:
    """Return what holds when an endpoint is disabled, or has asked to be left alone for now."""
    which = (endpoints.c.state == EndpointState.DISABLED) | (
        (endpoints.c.paused_until > now) & (endpoints.c.failed_at <= now + CLOCK_SLACK)
    )
    return sa.exists().where((endpoints.c.id == endpoint_id) & which)


def _is_due(endpoint_id: str, now: dt.datetime) -> sa.ColumnElement[bool]:
    """Return what holds for messages that may be tried now."""
    return (
        (outbox.c.endpoint_id == endpoint_id)
        & outbox.c.due_at.is_not(None)
        & _is_time(now)
        & ~is_closed(endpoint_id, now)
    )


def _is_time(now: dt.datetime) -> sa.ColumnElement[bool]:
    """
    Return what holds for messages on their way whose time has come.

    Instants that cannot be, because the clock was set back since they were stored, hold nothing up.
    """
    return (outbox.c.due_at <= now) | (outbox.c.scheduled_at > now + CLOCK_SLACK)
