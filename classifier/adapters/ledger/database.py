"""
The database a ledger lives in: opened, brought to the newest schema, read and written in transactions.

Hides: SQLAlchemy's engines, migrations, what drivers raise.
Keeps: what a transaction wrote is durable when it ends: on SQLite that means WAL, synchronous=FULL and BEGIN IMMEDIATE.
On PostgreSQL several daemons may have one ledger. What only one of them may do at a time is done under an advisory
lock that ends with its transaction; a daemon that stands still within a transaction is cut off by the server, which
gives its locks back and makes its transaction fail, so that it cannot go on where others have taken over.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from classifier.adapters.ledger.schema import VERSION, metadata
from classifier.errors import LedgerError
from classifier.ports import Checkpoint, no_checkpoint

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

BUSY_TIMEOUT_S = 10
CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_S = (
    15  # longer than IDLE_TIMEOUT_S: whoever holds a lock and stands still is cut off before others give up
)
IDLE_TIMEOUT_S = 10
CACHE_KB = 32_768  # of a SQLite connection: the upper pages of what is looked up in a ledger of a million files
STATEMENT_TIMEOUT_S = 60  # of anything but what goes through the whole ledger
_LOCKS = 0x706F6C  # the first half of our advisory locks' names, so that they are nobody else's
_POSTGRES = ("postgres", "postgresql")
_SHOWN = ("host", "port", "service")  # options of a URL that hold no secret and say which database it is
_MIGRATIONS = Path(__file__).parent.parent / "migrations"


class Turn(IntEnum):
    """What one daemon at a time may do with a ledger."""

    MIGRATE = 1
    RECORD = 2
    PRUNE = 3


def wait_for_turn(connection: sa.Connection, turn: Turn) -> None:
    """Wait until nobody else has this turn; it is given back when the transaction ends. On SQLite all have to wait."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCKS, int(turn))))


def insert_new(connection: sa.Connection, table: sa.Table, row: Mapping[str, object]) -> None:
    """Insert a row unless one with its key is there, also when somebody else inserts it at this very moment."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(insert(table).on_conflict_do_nothing(), row)


def parameter_mark(connection: sa.Connection) -> str:
    """Return what stands for a parameter in a statement that goes to the driver as it is."""
    return "?" if connection.dialect.paramstyle == "qmark" else "%s"


def has_turn(connection: sa.Connection, turn: Turn) -> bool:
    """Say whether this transaction has got the turn, or somebody else has it now."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCKS, int(turn)))))


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
    if parsed.drivername in _POSTGRES:
        parsed = parsed.set(drivername="postgresql+psycopg")
    where = shown(parsed)
    try:
        parsed.get_dialect().import_dbapi()
    except (NoSuchModuleError, ImportError) as error:
        if parsed.drivername == "postgresql+psycopg":
            how = "pip install 'policy-classifier[postgres]'"
            raise LedgerError(where, f"psycopg is needed and not installed; {how}") from error
        raise LedgerError(where, "no driver for this kind of database is installed") from error
    if (kind := parsed.get_backend_name()) not in {"sqlite", "postgresql"}:
        raise LedgerError(where, f"a ledger is kept in sqlite or postgresql, got {kind}")
    if kind == "sqlite":
        name = parsed.database or ""
        if name in {"", ":memory:"} or "memory" in parsed.query.values() or "\0" in name or name.startswith("file:"):
            raise LedgerError(where, "a ledger needs a file, e.g. sqlite:///classifier.db: what is in memory is lost")
    return parsed


def shown(url: sa.URL) -> str:
    """Return a URL as people may see it: no password, and none of the options that may hold one."""
    options = {name: value for name, value in url.query.items() if name in _SHOWN}
    name = url.drivername.partition("+")[0]
    return url.set(drivername=name, query=options).render_as_string(hide_password=True)


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
        url: ``sqlite:////path/to/file.db`` or ``postgresql://user@host/name``.
        migrate: bring the tables to this version's schema; otherwise they must be there already.
        is_checked: False leaves the schema as it is, whatever it is.
        checkpoint: told of places where a crash must lose nothing.

    Raises:
        LedgerError: the database cannot be opened, is no ledger, is damaged, or was written by a newer version.
    """

    def __init__(
        self, url: str, *, migrate: bool = True, is_checked: bool = True, checkpoint: Checkpoint = no_checkpoint
    ) -> None:
        self._checkpoint = checkpoint
        self._url = check_url(url)
        self._where = shown(self._url)
        self._open_here = threading.local()  # .connection: of the transaction that this thread has open
        try:
            self._engine = self._open(create=migrate)
        except (NoSuchModuleError, ImportError) as error:
            raise LedgerError(self._where, "no driver for this kind of database is installed") from error
        except (ArgumentError, TypeError, ValueError) as error:
            raise LedgerError(self._where, "a part of this database URL cannot be used") from error
        try:
            with self._translated():
                if is_checked:
                    self._check_schema(migrate=migrate)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @property
    def where(self) -> str:
        """The database's URL, without secrets."""
        return self._where

    @property
    def is_shared(self) -> bool:
        """Whether several daemons may have it at once."""
        return self._url.get_backend_name() == "postgresql"

    @contextmanager
    def reading(self, *, takes_long: bool = False) -> Iterator[sa.Connection]:
        """Give a transaction that only reads, and sees the ledger as it was at one instant."""
        if (joined := self._joined) is not None:
            yield joined
            return
        with self._translated(), self._engine.connect() as connection:
            connection = connection.execution_options(is_reading=True)  # noqa: PLW2901 - the same, as SQLAlchemy wants it
            if self.is_shared:
                connection = connection.execution_options(  # noqa: PLW2901
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
                if takes_long:
                    take_long(connection)
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a transaction that is committed when the context ends, or undone when it ends in an exception."""
        if (joined := self._joined) is not None:
            yield joined
            return
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def alone(self, turn: Turn) -> Iterator[None]:
        """
        Keep all others from the same turn until the end of the context.

        What this thread reads and writes in it is one transaction where several daemons may have the ledger. Where only
        one may, it is as many as it would be otherwise: no one waits longer for the write lock.
        """
        if not self.is_shared:
            yield
            return
        with self.writing() as connection:
            wait_for_turn(connection, turn)
            self._open_here.connection = connection
            try:
                yield
            finally:
                del self._open_here.connection

    @property
    def _joined(self) -> sa.Connection | None:
        return getattr(self._open_here, "connection", None)

    def _open(self, *, create: bool) -> sa.Engine:
        if self.is_shared:
            return _postgres(self._url)
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
        with self._engine.connect() as connection:
            self._check_encoding(connection)
            current = self._version(connection)
        if current == VERSION:
            return
        if not migrate and current is not None:
            how = "`classifier once` or `classifier watch` brings it up to date"
            raise LedgerError(self._where, f"the ledger was written by an older version of this program; {how}")
        if not migrate:
            raise LedgerError(self._where, "no ledger here yet; `classifier once` or `classifier watch` makes it")
        with self._engine.begin() as connection:
            wait_for_turn(connection, Turn.MIGRATE)
            take_long(connection)
            if self._version(connection) != VERSION:  # somebody else may have done it
                upgrade(connection)
            self._checkpoint("migrating")
        self._checkpoint("migrated")

    def _version(self, connection: sa.Connection) -> str | None:
        """Return the version of the schema, None in an empty database."""
        tables = set(sa.inspect(connection).get_table_names())
        current: str | None = (
            connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            if "alembic_version" in tables
            else None
        )
        if current is None and tables & set(metadata.tables):
            raise LedgerError(
                self._where,
                "this database has tables of ours but no schema version; it is not a ledger, name another one",
            )
        if current is not None and current > VERSION:
            raise LedgerError(
                self._where, f"schema version {current} is newer than this program knows; update the program"
            )
        return current

    def _check_encoding(self, connection: sa.Connection) -> None:
        if self.is_shared and (found := connection.scalar(sa.text("SHOW server_encoding"))) != "UTF8":
            raise LedgerError(self._where, f"a database with encoding UTF8 needed, got {found}; make one with it")

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


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """
    Bring the tables to a version of the schema, the newest by default, within an open transaction.

    Raises:
        LedgerError: it cannot be done.
    """
    # Most processes find the tables as they are to be, and need not wait for a tenth of a second of imports.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        where = shown(connection.engine.url)
        raise LedgerError(where, f"the schema cannot be brought up to date: {error}") from error


def _postgres(url: sa.URL) -> sa.Engine:
    """Return an engine for PostgreSQL; what the URL says of its own goes before what is set here."""
    limits = {
        "statement_timeout": STATEMENT_TIMEOUT_S,
        "lock_timeout": LOCK_TIMEOUT_S,
        "idle_in_transaction_session_timeout": IDLE_TIMEOUT_S,
    }
    own = url.query.get("options", "")
    options = " ".join([f"-c {name}={seconds}s" for name, seconds in limits.items()] + [str(own)] * bool(own))
    defaults = {
        "application_name": "classifier",
        "client_encoding": "utf8",
        "connect_timeout": CONNECT_TIMEOUT_S,
        # A server that is gone without a word is noticed within half a minute.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 25_000,
    }
    given = {name: value for name, value in defaults.items() if name not in url.query}
    return sa.create_engine(
        url.difference_update_query(["options"]),
        pool_pre_ping=True,
        pool_timeout=LOCK_TIMEOUT_S,
        isolation_level="READ COMMITTED",
        connect_args=given | {"options": options},
    )


def take_long(connection: sa.Connection) -> None:
    """Let this transaction take as long as it takes: it goes through the whole ledger."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _prepare_sqlite(connection: "DBAPIConnection", _record: object) -> None:
    connection.isolation_level = None  # sqlite3 must not begin transactions of its own: _begin_sqlite does
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"cache_size=-{CACHE_KB}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that starts as a reader and then writes can fail at once where BEGIN IMMEDIATE waits its turn.
    is_reading = connection.get_execution_options().get("is_reading", False)
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")
