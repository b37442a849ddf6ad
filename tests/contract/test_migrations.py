"""A ledger of every released schema, with something in each table, is brought to the newest one and works on."""

import datetime as dt
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from fakes import version_of
from messages import put, scored

from classifier import LedgerError
from classifier.adapters import migrations
from classifier.adapters.ledger import SqlLedger, check_url
from classifier.adapters.ledger.database import upgrade
from classifier.adapters.ledger.schema import VERSION
from classifier.delivery import Delivered, Outcome, Result

LEASE = dt.timedelta(seconds=60)
FIRST_SCHEMA = Path(__file__).parents[1] / "data" / "ledger-0001.sql"


def _revisions() -> list[str]:
    """Return all versions of the schema, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def test_the_newest_migration_is_the_version_of_the_schema() -> None:
    """And their names grow: by them an older schema is told from a newer one."""
    assert _revisions()[-1] == VERSION
    assert sorted(_revisions()) == _revisions()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    postgres = request.getfixturevalue("postgres")
    name = f"t{secrets.token_hex(8)}"
    yield postgres.make(name, template="template0")
    postgres.drop(name)


def _first_rows() -> dict[str, list[dict[str, Any]]]:
    """Return what the ledger of the first release held."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(FIRST_SCHEMA.read_text(encoding="utf-8"))
    connection.row_factory = sqlite3.Row
    tables = ("articles", "files", "matches", "outbox", "attempts")
    found = {table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in tables}  # noqa: S608
    connection.close()
    return found


def _tables(connection: sa.Connection) -> list[sa.Table]:
    """Return the tables as they are, those that others refer to first."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != "alembic_version"]


def _fill(connection: sa.Connection) -> None:
    """Put a row into each table that has none; it refers to what there is."""
    made_up: dict[type, object] = {str: "x", int: 1, bytes: b"x", float: 0.5, bool: True}
    for table in _tables(connection):
        if connection.execute(sa.select(table).limit(1)).first() is not None:
            continue
        row: dict[str, object] = {}
        for key in table.foreign_key_constraints:
            referred = connection.execute(sa.select(key.referred_table).limit(1)).mappings().one()
            for own, element in zip(key.columns, key.elements, strict=True):
                row[own.name] = referred[element.column.name]
        for column in table.columns:
            if column.name not in row:
                row[column.name] = made_up[column.type.python_type]
        connection.execute(table.insert(), row)
        if table.name in {"held", "aside"}:
            _count_endpoints(connection)


def _count_endpoints(connection: sa.Connection) -> None:
    """Make matches count what is held or put aside, where they count endpoints."""
    if "n_endpoints" not in {column["name"] for column in sa.inspect(connection).get_columns("matches")}:
        return
    of_match = "(SELECT count(*) FROM {0} WHERE {0}.article_id = matches.article_id AND {0}.rule_id = matches.rule_id)"
    names = [name for name in ("held", "aside") if sa.inspect(connection).has_table(name)]
    counts = " + ".join(of_match.format(name) for name in names)
    connection.execute(sa.text(f"UPDATE matches SET n_endpoints = n_messages + {counts}"))  # noqa: S608 - ours


def _content(connection: sa.Connection) -> dict[str, tuple[list[str], list[tuple[Any, ...]]]]:
    found = {}
    for table in _tables(connection):
        names = [column.name for column in table.columns]
        rows = [tuple(row) for row in connection.execute(sa.select(table))]
        found[table.name] = (names, sorted(rows, key=repr))
    return found


@pytest.mark.parametrize("revision", _revisions()[:-1])
def test_every_released_schema_goes_forward_with_what_is_in_it(url: str, revision: str) -> None:
    """No row is lost or changed, the books add up as before, and the next steps work."""
    engine = sa.create_engine(check_url(url))
    with engine.begin() as connection:
        upgrade(connection, _revisions()[0])
        for table in _tables(connection):
            connection.execute(table.insert(), _first_rows()[table.name])
        for number in _numbered(connection):
            connection.execute(sa.text(number))
        upgrade(connection, revision)
        _fill(connection)
        before = _content(connection)
    engine.dispose()
    with pytest.raises(LedgerError, match="written by an older version of this program; `classifier once`"):
        SqlLedger(url, migrate=False)
    ledger = SqlLedger(url)
    engine = sa.create_engine(check_url(url))
    with engine.connect() as connection:
        after = _content(connection)
    engine.dispose()

    for name, (columns, rows) in before.items():
        new_columns, new_rows = after[name]
        places = [new_columns.index(column) for column in columns]
        assert sorted((tuple(row[place] for place in places) for row in new_rows), key=repr) == rows, name
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 - after everything in the ledger
    assert ledger.audit().faults == ()
    assert put(ledger, version_of("new", b"new"), scored("new", "desk"), now) == "scored"
    delivered = 0
    while claim := ledger.claim("desk", now + dt.timedelta(days=1), LEASE):
        assert ledger.settle(claim, Outcome(result=Result.DELIVERED, status=204), Delivered(), now)
        delivered += 1
    assert delivered >= 2
    assert ledger.audit().faults == ()
    ledger.close()


def _numbered(connection: sa.Connection) -> list[str]:
    """Return what sets the numbering of rows after those put in with their numbers, where a database needs it said."""
    if connection.dialect.name == "sqlite":
        return []
    return [f"SELECT setval('{table}_id_seq', 1000)" for table in ("files", "attempts")]
