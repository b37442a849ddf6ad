"""
Who is at work on which file, where several daemons have one ledger.

A claim saves work and decides nothing: whose lease is over loses it to whoever asks next, and which of the two records
the file is decided by the file's own key, not by the claim. A late one is not kept from being first: if it were, two
daemons that both take longer than a lease lasts would pass a file to and fro for ever.
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
    """
    Claim those of *versions* that have no verdict and that nobody else is at work on; return these, in order.

    What *owner* has already is its own for another *lease*, also when its time was over, unless it was taken from it.
    """
    paths = list({storable(version.path) for version in versions})
    wanted = sa.select(sa.func.unnest(sa.bindparam("paths", paths, postgresql.ARRAY(sa.Text))).label("path")).subquery()
    is_free = (file_claims.c.owner == owner) | (file_claims.c.until <= now)
    # The rows of others are not so much as locked: nobody who records, and gives up claims with it, is waited for.
    is_taken = sa.exists().where((file_claims.c.path == wanted.c.path) & ~is_free)
    rows = (
        sa.select(wanted.c.path, sa.literal(owner, sa.String), sa.literal(now + lease, UtcDateTime))
        .where(~is_taken)
        .order_by(sa.collate(wanted.c.path, "C"))  # the same for all: no two wait for each other
    )
    insert = postgresql.insert(file_claims).from_select(["path", "owner", "until"], rows)
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
