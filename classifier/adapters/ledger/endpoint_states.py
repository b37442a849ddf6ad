"""What is known of each endpoint: its state, its failures, and since when its older keys have been retired."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import fields

import sqlalchemy as sa

from classifier.adapters.ledger.database import insert_new
from classifier.adapters.ledger.schema import MAX_DETAIL, endpoint_keys, endpoints, outbox, outbox_row
from classifier.delivery import EndpointHealth, EndpointState, Message
from classifier.ports import Follow


def health(connection: sa.Connection, endpoint_id: str, *, is_to_change: bool = False) -> EndpointHealth:
    """
    Return what is known of an endpoint; of one never heard of, that it is working.

    With *is_to_change* nobody else changes it before the transaction ends.
    """
    query = sa.select(endpoints).where(endpoints.c.id == endpoint_id)
    if is_to_change:
        query = query.with_for_update()
        new = EndpointHealth()
        insert_new(
            connection,
            endpoints,
            {"id": endpoint_id, "state": str(new.state), "reason": new.reason, "failures": new.failures},
        )
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return EndpointHealth()
    values = {key: value for key, value in row.items() if key not in {"id", "state"}}
    return EndpointHealth(state=EndpointState(row["state"]), **values)


def change(
    connection: sa.Connection,
    endpoint_id: str,
    before: EndpointHealth,
    after: EndpointHealth,
    now: dt.datetime,
    notices: Sequence[Message],
) -> bool:
    """Store *after* and the notices; False, and nothing stored, when the state is no longer that of *before*."""
    if health(connection, endpoint_id, is_to_change=True).state is not before.state:
        return False
    _store(connection, endpoint_id, after, now, notices)
    return True


def follow(
    connection: sa.Connection, endpoint_id: str, before: EndpointHealth, decide: Follow, now: dt.datetime
) -> None:
    """Store what *decide* makes of what is known of an endpoint, unless its state is no longer that of *before*."""
    current = health(connection, endpoint_id, is_to_change=True)
    if current.state is before.state:
        after, notices = decide(current)
        _store(connection, endpoint_id, after, now, notices)


def _store(
    connection: sa.Connection,
    endpoint_id: str,
    after: EndpointHealth,
    now: dt.datetime,
    notices: Sequence[Message],
) -> None:
    values = {field.name: getattr(after, field.name) for field in fields(after)}
    values |= {"state": str(after.state), "reason": after.reason[:MAX_DETAIL]}
    connection.execute(endpoints.update().where(endpoints.c.id == endpoint_id).values(**values))
    for notice in notices:
        connection.execute(outbox.insert(), outbox_row(notice, None, now))


def retired_keys(
    connection: sa.Connection, endpoint_id: str, fingerprints: Sequence[str], now: dt.datetime
) -> Mapping[str, dt.datetime]:
    """Say since when each of an endpoint's keys but the first has stood behind another one; remember it."""
    old = [item for item in dict.fromkeys(fingerprints) if item != fingerprints[0]]
    mine = endpoint_keys.c.endpoint_id == endpoint_id
    connection.execute(endpoint_keys.delete().where(mine & endpoint_keys.c.fingerprint.not_in(old)))
    rows = connection.execute(sa.select(endpoint_keys).where(mine))
    known: dict[str, dt.datetime] = {row.fingerprint: row.retired_at for row in rows}
    for item in old:
        if item not in known:
            row = {"endpoint_id": endpoint_id, "fingerprint": item, "retired_at": now}
            insert_new(connection, endpoint_keys, row)
    return {item: known.get(item, now) for item in old}
