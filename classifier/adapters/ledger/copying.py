"""
A ledger moved from one database to another.

Keeps: all of it is one transaction, schema and rows and the check that nothing is missing: a copy that ends early
leaves the target as empty as it was. Memory is bounded, however long the tables are.
"""

from collections.abc import Callable, Iterator

import sqlalchemy as sa

from classifier.adapters.ledger import books
from classifier.adapters.ledger.database import Database, check_url, take_long, upgrade
from classifier.adapters.ledger.schema import metadata
from classifier.errors import LedgerError
from classifier.ports import Audit

_ROWS = 1_000  # read and written at once


def copy_ledger(
    source: str, target: str, on_rows: Callable[[str, int, int], None] = lambda _table, _done, _size: None
) -> Audit:
    """
    Copy everything in one ledger into an empty database.

    Args:
        source: URL of a ledger of this version; nobody may be writing to it.
        target: URL of a database with no ledger, or an empty one, in it.
        on_rows: told the table, its rows copied so far, and how many it has.

    Returns:
        The books of the copy, which are those of the source.

    Raises:
        LedgerError: the source is no ledger, is in use or is at fault; the target is not empty; or the copy does not
            agree with the source. Nothing has been copied then.
    """
    if check_url(source) == check_url(target):
        raise LedgerError("ledger", "source and target are the same database; name another target")
    old = Database(source, migrate=False)
    try:
        new = Database(target, is_checked=False)
        try:
            with old.reading(takes_long=True) as reading, new.writing() as writing:
                _refuse_in_use(old, reading)
                take_long(writing)
                _prepare(new, writing)
                for table in metadata.sorted_tables:
                    _copy(reading, writing, table, on_rows)
                return _checked(old, reading, new, writing)
        finally:
            new.close()
    finally:
        old.close()


def _refuse_in_use(old: Database, reading: sa.Connection) -> None:
    """Refuse a source that others are connected to; of a file its lock tells, which the caller holds."""
    if old.is_shared:
        others = sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND application_name LIKE 'classifier%'"
        )
        if count := reading.scalar(others):
            raise LedgerError(old.where, f"{count} sessions of a classifier have it open; stop the daemons first")


def _prepare(new: Database, writing: sa.Connection) -> None:
    """Make the tables, unless they are there and empty."""
    upgrade(writing)
    for table in metadata.sorted_tables:
        if writing.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
            raise LedgerError(new.where, "there is a ledger with something in it; name an empty database")


def _copy(
    reading: sa.Connection, writing: sa.Connection, table: sa.Table, on_rows: Callable[[str, int, int], None]
) -> None:
    size = reading.scalar(sa.select(sa.func.count()).select_from(table)) or 0
    done = 0
    for rows in _partitions(reading, table):
        writing.execute(table.insert(), rows)
        done += len(rows)
        on_rows(table.name, done, size)
    row_id = table.c.get("id")
    if writing.dialect.name == "postgresql" and row_id is not None and isinstance(row_id.type, sa.Integer):
        # The numbers came with the rows; the next one given must be a new one.
        last = sa.func.coalesce(sa.func.max(row_id), 0) + 1
        sequence = sa.func.pg_get_serial_sequence(table.name, "id")
        writing.execute(sa.select(sa.func.setval(sequence, last, False)).select_from(table))  # noqa: FBT003 - SQL's


def _partitions(reading: sa.Connection, table: sa.Table) -> Iterator[list[dict[str, object]]]:
    options = {"stream_results": True, "yield_per": _ROWS}
    with reading.execute(sa.select(table), execution_options=options) as result:
        for some in result.mappings().partitions(_ROWS):
            yield [dict(row) for row in some]


def _checked(old: Database, reading: sa.Connection, new: Database, writing: sa.Connection) -> Audit:
    for table in metadata.sorted_tables:
        count = sa.select(sa.func.count()).select_from(table)
        before, after = reading.scalar(count), writing.scalar(count)
        if before != after:
            raise LedgerError(new.where, f"{after} rows of {before} arrived in {table.name}; nothing was kept")
    audit = books.audit(reading)
    if audit.faults:
        raise LedgerError(old.where, f"{'; '.join(audit.faults)}; nothing was kept")
    if books.audit(writing) != audit:
        raise LedgerError(new.where, "the books of the copy are not those of the source; nothing was kept")
    return audit
