"""What is known of each endpoint: its state, its failures, and since when its older keys have been retired."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import fields

import sqlalchemy as sa

from classifier.adapters.ledger.schema import MAX_DETAIL, endpoint_keys, endpoints, outbox, outbox_row
from classifier.delivery import EndpointHealth, EndpointState, Message


def health(connection: sa.Connection, endpoint_id: str) -> EndpointHealth:
    """Return what is known of an endpoint; of one never heard of, that it is working."""
    row = connection.execute(sa.select(endpoints).where(endpoints.c.id == endpoint_id)).mappings().one_or_none()
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
    mine = endpoints.c.id == endpoint_id
    state = connection.scalar(sa.select(endpoints.c.state).where(mine))
    if (state or EndpointState.WORKING) != before.state:
        return False
    values = {field.name: getattr(after, field.name) for field in fields(after)}
    values |= {"state": str(after.state), "reason": after.reason[:MAX_DETAIL]}
    if state is None:
        connection.execute(endpoints.insert(), {"id": endpoint_id, **values})
    else:
        connection.execute(endpoints.update().where(mine).values(**values))
    for notice in notices:
        connection.execute(outbox.insert(), outbox_row(notice, None, now))
    return True


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
            connection.execute(endpoint_keys.insert(), row)
    return {item: known.get(item, now) for item in old}
