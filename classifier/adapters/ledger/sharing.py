"""
Who is at work on which file, where several daemons have one ledger.

A claim saves work and decides nothing: when a daemon is gone, or slower than its claim lasts, another one judges the
same file, and the first to record it wins. So a claim needs no token and no renewal.
"""

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from classifier.adapters.ledger.recording import unrecorded
from classifier.adapters.ledger.schema import UtcDateTime, file_claims, storable
from classifier.ports import FileVersion


def take(
    connection: sa.Connection, versions: Sequence[FileVersion], owner: str, now: dt.datetime, lease: dt.timedelta
) -> Sequence[FileVersion]:
    """Claim those of *versions* that have no verdict and that nobody else is at work on; return these, in order."""
    paths = sorted({storable(version.path) for version in versions})  # in one order for all: no two wait for each other
    rows = sa.select(
        sa.func.unnest(sa.bindparam("paths", paths, postgresql.ARRAY(sa.Text))).label("path"),
        sa.literal(owner, sa.String),
        sa.literal(now + lease, UtcDateTime),
    )
    insert = postgresql.insert(file_claims).from_select(["path", "owner", "until"], rows)
    is_free = (file_claims.c.owner == owner) | (file_claims.c.until <= now)
    mine = insert.on_conflict_do_update(
        index_elements=[file_claims.c.path],
        set_={"owner": insert.excluded.owner, "until": insert.excluded.until},
        where=is_free,
    ).returning(file_claims.c.path)
    taken = set(connection.scalars(mine))
    new = unrecorded(connection, [version for version in versions if storable(version.path) in taken])
    if recorded := taken - {storable(version.path) for version in new}:  # by somebody else, since they were looked up
        release(connection, owner, sorted(recorded))
    return new


def release(connection: sa.Connection, owner: str, paths: Sequence[str] | None = None) -> None:
    """Give up the claims of *owner*: all of them, or those to these files."""
    which = file_claims.c.owner == owner
    if paths is not None:
        which &= file_claims.c.path == sa.any_(
            sa.bindparam("paths", [storable(path) for path in paths], postgresql.ARRAY(sa.Text))
        )
    connection.execute(file_claims.delete().where(which))
