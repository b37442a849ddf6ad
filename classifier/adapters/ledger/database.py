"""
The database a ledger lives in: opened, brought to the newest schema, read and written in transactions.

Hides: SQLAlchemy's engines, migrations, what drivers raise.
Keeps: what a transaction wrote is durable when it ends: on SQLite that means WAL, synchronous=FULL and BEGIN IMMEDIATE.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from classifier.adapters.ledger.schema import metadata
from classifier.errors import LedgerError
from classifier.ports import Checkpoint, no_checkpoint

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

BUSY_TIMEOUT_S = 10
_MIGRATIONS = Path(__file__).parent.parent / "migrations"


def check_url(url: str) -> sa.URL:
    """
    Return a ledger's URL in its parts, without opening anything.

    Raises:
        LedgerError: it is none, no driver for it is here, or it names what is lost when the process ends.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):  # the cause may repeat a password
        raise LedgerError("ledger", "this is no database URL, e.g. sqlite:///classifier.db") from None
    where = parsed.render_as_string(hide_password=True)
    try:
        parsed.get_dialect().import_dbapi()
    except (NoSuchModuleError, ImportError) as error:
        raise LedgerError(where, "no driver for this kind of database is installed") from error
    if parsed.get_backend_name() == "sqlite":
        name = parsed.database or ""
        if name in {"", ":memory:"} or "memory" in parsed.query.values() or "\0" in name or name.startswith("file:"):
            raise LedgerError(where, "a ledger needs a file, e.g. sqlite:///classifier.db: what is in memory is lost")
    return parsed


def sqlite_file(url: str) -> Path | None:
    """Return the file of a ledger in SQLite; None when the URL is another database's, or none."""
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        return None
    has_file = parsed.get_backend_name() == "sqlite" and parsed.database not in {None, "", ":memory:"}
    return Path(str(parsed.database)) if has_file else None


class Database:
    """
    An open database with the tables of this version.

    Args:
        url: ``sqlite:////path/to/file.db`` or any SQLAlchemy URL.
        migrate: bring the tables to this version's schema; otherwise they must be there already.
        checkpoint: told of places where a crash must lose nothing.

    Raises:
        LedgerError: the database cannot be opened, is no ledger, is damaged, or was written by a newer version.
    """

    def __init__(self, url: str, *, migrate: bool = True, checkpoint: Checkpoint = no_checkpoint) -> None:
        self._checkpoint = checkpoint
        self._url = check_url(url)
        self._where = self._url.render_as_string(hide_password=True)
        try:
            self._engine = self._open(create=migrate)
        except (NoSuchModuleError, ImportError) as error:
            raise LedgerError(self._where, "no driver for this kind of database is installed") from error
        except (ArgumentError, TypeError, ValueError) as error:
            raise LedgerError(self._where, "a part of this database URL cannot be used") from error
        try:
            with self._translated():
                self._check_schema(migrate=migrate)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a transaction that only reads."""
        with self._translated(), self._engine.connect() as connection:
            yield connection.execution_options(is_reading=True)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a transaction that is committed when the context ends, or undone when it ends in an exception."""
        with self._translated(), self._engine.begin() as connection:
            yield connection

    def _open(self, *, create: bool) -> sa.Engine:
        if self._url.get_backend_name() != "sqlite":
            return sa.create_engine(self._url, pool_pre_ping=True)
        path = Path(self._url.database or "")
        wal = path.with_name(f"{path.name}-wal")
        if not _size(path) and _size(wal):
            raise LedgerError(
                self._where, f"the database is gone but {wal.name} is there; restore the database, or move both away"
            )
        if not create and not path.is_file():  # sqlite would make an empty file just by looking
            raise LedgerError(self._where, "no ledger here yet; `classifier once` or `classifier watch` makes it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(self._where, f"its folder cannot be made: {error.strerror}") from error
        engine = sa.create_engine(self._url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _check_schema(self, *, migrate: bool) -> None:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        with self._engine.connect() as connection:
            tables = set(sa.inspect(connection).get_table_names())
            current = (
                connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
                if "alembic_version" in tables
                else None
            )
        if current is None and tables & set(metadata.tables):
            raise LedgerError(
                self._where,
                "this database has tables of ours but no schema version; it is not a ledger, name another one",
            )
        if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
            raise LedgerError(
                self._where, f"schema version {current} is newer than this program knows; update the program"
            )
        if current == scripts.get_current_head():
            return
        if not migrate and current is not None:
            how = "`classifier once` or `classifier watch` brings it up to date"
            raise LedgerError(self._where, f"the ledger was written by an older version of this program; {how}")
        if not migrate:
            raise LedgerError(self._where, "no ledger here yet; `classifier once` or `classifier watch` makes it")
        with self._engine.begin() as connection:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise LedgerError(self._where, f"the schema cannot be brought up to date: {error}") from error
            self._checkpoint("migrating")
        self._checkpoint("migrated")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:  # without the statement: its parameters are articles
            raise LedgerError(self._where, next(iter(str(error.orig).splitlines()), type(error).__name__)) from error
        except SQLAlchemyError as error:
            raise LedgerError(self._where, type(error).__name__) from error
        except (TypeError, ValueError) as error:  # an option of the URL that only the driver looks at
            raise LedgerError(self._where, f"the database refuses: {type(error).__name__}") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _prepare_sqlite(connection: "DBAPIConnection", _record: object) -> None:
    connection.isolation_level = None  # sqlite3 must not begin transactions of its own: _begin_sqlite does
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that starts as a reader and then writes can fail at once where BEGIN IMMEDIATE waits its turn.
    is_reading = connection.get_execution_options().get("is_reading", False)
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")
