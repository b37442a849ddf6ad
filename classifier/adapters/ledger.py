"""
The ledger in a SQL database: what was found, what was decided, what is to be sent. The only truth; everything else can
be killed.

Hides: SQLAlchemy, transactions, leases, migrations, driver errors.
Keeps: every public method is one transaction, durable when it returns. On SQLite that means WAL, synchronous=FULL and
BEGIN IMMEDIATE. A message is delivered under a lease with a token; who comes back after the lease ran out cannot
settle any more. Longer than most modules because tables and the methods that use them are read together.
"""

import datetime as dt
import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from classifier.alerts import MessageId, tag_record
from classifier.delivery import (
    Dead,
    Delivered,
    EndpointHealth,
    EndpointState,
    Message,
    Outcome,
    RetryAt,
    Step,
)
from classifier.errors import LedgerError
from classifier.ports import (
    Audit,
    Checkpoint,
    Claim,
    Duplicate,
    FileState,
    FileVersion,
    OutboxRow,
    Queue,
    Rejected,
    Retention,
    Scored,
    Verdict,
    no_checkpoint,
)

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

BUSY_TIMEOUT_S = 10
_MIGRATIONS = Path(__file__).parent / "migrations"
_MAX_DETAIL = 500
CLOCK_SLACK = dt.timedelta(seconds=60)  # a clock set back by less is waited for
PRUNE_ROWS = 1_000  # forgotten in one transaction: others wait no longer than that takes
_MAX_IN = 1_000  # values asked for in one statement; every database takes so many


class UtcDateTime(sa.TypeDecorator[dt.datetime]):
    """An aware instant, stored as microseconds since 1970: sorts and compares the same in every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002, D102
        return (
            None
            if value is None
            else int((value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1))
        )

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> dt.datetime | None:  # noqa: ARG002, D102
        return None if value is None else dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=value)


metadata = sa.MetaData()


def _where(condition: sa.ColumnElement[bool]) -> dict[str, Any]:
    """Return the options of an index that holds only some of the rows."""
    return {"sqlite_where": condition, "postgresql_where": condition}


articles = sa.Table(
    "articles",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # SHA-256 of the bytes
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("date", sa.String(10)),
    sa.Column("publisher", sa.Text, nullable=False),
    sa.Column("tags", sa.Text, nullable=False),  # JSON: facet to tag records
    sa.Column("abstained", sa.String(32)),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("scored_at", UtcDateTime, nullable=False),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("ctime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.String(20), nullable=False),  # can exceed a signed 64-bit integer
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(32)),
    sa.Column("detail", sa.Text),
    sa.Column("article_id", sa.ForeignKey("articles.id")),
    sa.Column("recorded_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("path", "size", "mtime_ns", "ctime_ns", "inode", name="uq_files_version"),
)

matches = sa.Table(
    "matches",
    metadata,
    sa.Column("article_id", sa.ForeignKey("articles.id"), primary_key=True),
    sa.Column("rule_id", sa.String(64), primary_key=True),
    sa.Column("rule_version", sa.String(8), nullable=False),
    sa.Column("n_messages", sa.Integer, nullable=False),  # so that an audit can tell a lost message from one never made
    sa.Column("created_at", UtcDateTime, nullable=False),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # the webhook-id
    sa.Column("article_id", sa.String(64)),  # NULL, like rule_id, for what is told of an endpoint
    sa.Column("rule_id", sa.String(64)),
    sa.Column("endpoint_id", sa.String(64), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),  # over the message's whole life
    sa.Column("attempts_before_retry", sa.Integer, nullable=False),  # made before a person asked to start again
    sa.Column("due_at", UtcDateTime),  # next try, or end of the running lease; NULL when the message is settled
    sa.Column("scheduled_at", UtcDateTime, nullable=False),  # when due_at was decided: if that is to come, it is wrong
    sa.Column("token", sa.String(32)),  # of the running lease
    sa.Column("last_result", sa.String(32)),
    sa.Column("last_detail", sa.Text),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("settled_at", UtcDateTime),
    sa.ForeignKeyConstraint(["article_id", "rule_id"], ["matches.article_id", "matches.rule_id"]),
    sa.Index("ix_outbox_due", "endpoint_id", "due_at", "scheduled_at"),
    sa.Index("ix_outbox_match", "article_id", "rule_id"),
)
sa.Index("ix_outbox_open", outbox.c.state, **_where(outbox.c.state != "delivered"))
sa.Index("ix_outbox_body", outbox.c.settled_at, **_where(sa.func.length(outbox.c.body) > 0))
sa.Index("ix_files_forgettable", files.c.recorded_at, **_where(files.c.state != "scored"))
sa.Index("ix_matches_created_at", matches.c.created_at)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("message_id", sa.ForeignKey("outbox.id"), nullable=False, index=True),
    sa.Column("result", sa.String(32), nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("tried_at", UtcDateTime, nullable=False, index=True),
)

endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("changed_at", UtcDateTime),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("failing_since", UtcDateTime),
    sa.Column("failed_at", UtcDateTime),
    sa.Column("delivered_at", UtcDateTime),
    sa.Column("paused_until", UtcDateTime),
)

endpoint_keys = sa.Table(
    "endpoint_keys",
    metadata,
    sa.Column("endpoint_id", sa.String(64), primary_key=True),
    sa.Column("fingerprint", sa.String(16), primary_key=True),
    sa.Column("retired_at", UtcDateTime, nullable=False),  # when another key was first seen in front of it
)


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


class SqlLedger:
    """
    A `Ledger` in SQLite or another database that SQLAlchemy speaks to.

    Args:
        url: ``sqlite:////path/to/file.db`` or any SQLAlchemy URL.
        migrate: bring the tables to this version's schema; otherwise they must be there already.
        checkpoint: told of places inside transactions where a crash must lose nothing.

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

    def unrecorded(self, versions: Sequence[FileVersion]) -> Sequence[FileVersion]:
        """Return those of *versions* that have no verdict yet, in the same order."""
        with self._reading() as connection:
            known = _recorded(connection, versions)
        return [version for version in versions if _key(version) not in known]

    def scored(self, sha256s: Collection[str]) -> Collection[str]:
        """Return those of *sha256s* that are the digest of bytes scored before."""
        with self._reading() as connection:
            return _scored(connection, sha256s)

    def record(self, verdicts: Sequence[tuple[FileVersion, Verdict]], now: dt.datetime) -> Sequence[FileState | None]:
        """Store what became of these files, with everything that follows from it, in one transaction."""
        digests = [_digest(verdict) for _, verdict in verdicts]
        with self._writing() as connection:
            recorded = _recorded(connection, [file for file, _ in verdicts])
            known = _scored(connection, {digest for digest in digests if digest})
            rows = _Rows(now)
            states = []
            for (file, verdict), digest in zip(verdicts, digests, strict=True):
                state: FileState | None = None
                if _key(file) not in recorded:
                    state = rows.add(file, verdict, is_known=digest in known)
                if state is not None:
                    recorded.add(_key(file))
                if state == "scored" and digest:
                    known.add(digest)
                states.append(state)
            for table, values in rows.by_table.items():
                if values:
                    connection.execute(table.insert(), values)
            self._checkpoint("recording")
        return states

    def claim(self, endpoint_id: str, now: dt.datetime, lease: dt.timedelta) -> Claim | None:
        """Take the message of one endpoint that has been due longest, if any, for the time of *lease*."""
        due = _is_due(endpoint_id, now)
        with self._reading() as connection:  # most rounds find nothing: they should not take the write lock
            if connection.scalar(sa.select(sa.literal(1)).where(due).limit(1)) is None:
                return None
        with self._writing() as connection:
            first = (
                sa.select(outbox)
                .where(due)
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
            self._checkpoint("claiming")
            health = _health(connection, endpoint_id)
        message = Message(id=MessageId(row.id), endpoint_id=row.endpoint_id, rule_id=row.rule_id, body=row.body)
        return Claim(message=message, attempts=row.attempts - row.attempts_before_retry, token=token, health=health)

    def settle(
        self,
        claim: Claim,
        outcome: Outcome,
        step: Step,
        now: dt.datetime,
        health: EndpointHealth | None = None,
        notices: Sequence[Message] = (),
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
        detail = outcome.detail[:_MAX_DETAIL]
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
        with self._writing() as connection:
            mine = (outbox.c.id == claim.message.id) & (outbox.c.token == claim.token)
            if connection.execute(outbox.update().where(mine).values(**change)).rowcount != 1:
                return False
            connection.execute(attempts.insert(), tried)
            if health is not None:
                _store_health(connection, claim.message.endpoint_id, claim.health, health, now, notices)
            self._checkpoint("settling")
        return True

    def health(self, endpoint_id: str) -> EndpointHealth:
        """Return what is known of an endpoint; of one never heard of, that it is working."""
        with self._reading() as connection:
            return _health(connection, endpoint_id)

    def set_health(
        self,
        endpoint_id: str,
        before: EndpointHealth,
        after: EndpointHealth,
        now: dt.datetime,
        notices: Sequence[Message] = (),
    ) -> bool:
        """Store *after* and the notices; False, and nothing stored, when the state is no longer that of *before*."""
        with self._writing() as connection:
            return _store_health(connection, endpoint_id, before, after, now, notices)

    def retired_keys(
        self, endpoint_id: str, fingerprints: Sequence[str], now: dt.datetime
    ) -> Mapping[str, dt.datetime]:
        """Say since when each of an endpoint's keys but the first has stood behind another one; remember it."""
        old = [item for item in dict.fromkeys(fingerprints) if item != fingerprints[0]]
        mine = endpoint_keys.c.endpoint_id == endpoint_id
        with self._writing() as connection:
            connection.execute(endpoint_keys.delete().where(mine & endpoint_keys.c.fingerprint.not_in(old)))
            rows = connection.execute(sa.select(endpoint_keys).where(mine))
            known: dict[str, dt.datetime] = {row.fingerprint: row.retired_at for row in rows}
            for item in old:
                if item not in known:
                    row = {"endpoint_id": endpoint_id, "fingerprint": item, "retired_at": now}
                    connection.execute(endpoint_keys.insert(), row)
        return {item: known.get(item, now) for item in old}

    def backlog(self) -> Mapping[str, Mapping[str, int]]:
        """Count messages by endpoint and state."""
        query = sa.select(outbox.c.endpoint_id, outbox.c.state, sa.func.count()).group_by(
            outbox.c.endpoint_id, outbox.c.state
        )
        counts: dict[str, dict[str, int]] = {}
        with self._reading() as connection:
            for endpoint_id, state, count in connection.execute(query):
                counts.setdefault(endpoint_id, {})[state] = count
        return counts

    def outbox(self, *, states: Sequence[str], limit: int) -> Sequence[OutboxRow]:
        """Return messages in these states, newest first."""
        query = (
            sa.select(outbox)
            .where(outbox.c.state.in_(states))
            .order_by(outbox.c.created_at.desc(), outbox.c.id)
            .limit(limit)
        )
        with self._reading() as connection:
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

    def retry(self, ids: Sequence[MessageId] | None, now: dt.datetime) -> int:
        """Make dead messages due again, all or those named, with a fresh schedule; return how many."""
        which = outbox.c.state == "dead"
        if ids is not None:
            which &= outbox.c.id.in_(ids)
        return self._make_due(which, now)

    def recover(self, endpoint_id: str | None, since: dt.datetime, now: dt.datetime) -> int:
        """Make every message made at *since* or later and not delivered due now, in the order they were made in."""
        which = outbox.c.state.in_(["pending", "dead"]) & outbox.c.token.is_(None) & (outbox.c.created_at >= since)
        if endpoint_id is not None:
            which &= outbox.c.endpoint_id == endpoint_id
        return self._make_due(which, now)

    def _make_due(self, which: sa.ColumnElement[bool], now: dt.datetime) -> int:
        fresh = {
            "state": "pending",
            "due_at": outbox.c.created_at,  # all are due, and those made first are due longest
            "scheduled_at": now,
            "settled_at": None,
            "attempts_before_retry": outbox.c.attempts,
        }
        with self._writing() as connection:
            return connection.execute(outbox.update().where(which).values(**fresh)).rowcount

    def queues(self, now: dt.datetime) -> Mapping[str, Queue]:
        """Return what waits, by endpoint; an endpoint for which nothing does is no key."""
        # A message that was made due again stands at the time it was made; it has been due since that was decided.
        since = sa.case((outbox.c.due_at < outbox.c.scheduled_at, outbox.c.scheduled_at), else_=outbox.c.due_at)
        query = (  # of index ix_outbox_due alone: asked every few seconds, it must not read the bodies
            sa.select(outbox.c.endpoint_id, sa.func.count(), sa.func.min(since, type_=UtcDateTime))
            .where(outbox.c.due_at.is_not(None))
            .group_by(outbox.c.endpoint_id)
        )
        with self._reading() as connection:
            return {
                endpoint_id: Queue(pending=pending, oldest_due_s=max(0.0, (now - due_at).total_seconds()))
                for endpoint_id, pending, due_at in connection.execute(query)
            }

    def newest_file_at(self) -> dt.datetime | None:
        """Return when the last file got its verdict; None when none ever did."""
        with self._reading() as connection:
            found: dt.datetime | None = connection.scalar(
                sa.select(sa.func.max(files.c.recorded_at, type_=UtcDateTime))
            )
        return found

    def waiting(self, limit: int) -> int:
        """Count the messages that are not delivered, dead ones included; no further than *limit*."""
        some = sa.select(sa.literal(1)).where(_IS_OPEN).limit(limit).subquery()
        with self._reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0

    def prune(self, retention: Retention, now: dt.datetime) -> int:
        """Forget at most `PRUNE_ROWS` of each kind of what is older than *retention* says; return how many."""
        old_records = now - retention.records
        with self._writing() as connection:
            forgotten = _forget_bodies(connection, now - retention.bodies)
            forgotten += _delete(connection, attempts, _old_attempts(now - retention.attempts))
            forgotten += _delete(connection, files, _IS_FORGETTABLE & (files.c.recorded_at < old_records))
            forgotten += _forget_matches(connection, old_records)
            self._checkpoint("pruning")
        self._checkpoint("pruned")
        return forgotten

    def audit(self) -> Audit:
        """Count everything and check that it adds up."""

        def counts(connection: sa.Connection, column: sa.Column[str]) -> dict[str, int]:
            query = sa.select(column, sa.func.count()).where(column.is_not(None)).group_by(column).order_by(column)
            return {str(value): int(count) for value, count in connection.execute(query)}

        with self._reading() as connection:
            damage = _damage(connection)
            by_state, by_reason = counts(connection, files.c.state), counts(connection, files.c.reason)
            messages = counts(connection, outbox.c.state)
            n_articles = connection.scalar(sa.select(sa.func.count()).select_from(articles)) or 0
            n_matches = connection.scalar(sa.select(sa.func.count()).select_from(matches)) or 0
            n_alerts = connection.scalar(sa.select(sa.func.count()).where(outbox.c.article_id.is_not(None))) or 0
            expected = connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(matches.c.n_messages), 0))) or 0
            stuck = connection.scalar(
                sa.select(sa.func.count())
                .select_from(outbox)
                .where((outbox.c.state == "pending") != outbox.c.due_at.is_not(None))
            )
        checks = (
            (
                by_state.get("scored", 0) == n_articles,
                f"{by_state.get('scored', 0)} files are scored but {n_articles} articles are stored",
            ),
            (
                n_alerts == expected,
                f"the matches asked for {expected} messages but {n_alerts} are stored",
            ),
            (not stuck, f"{stuck} messages are neither due nor settled"),
            (not damage, f"the database is damaged: {damage}"),
        )
        return Audit(
            files=by_state,
            rejections=by_reason,
            articles=n_articles,
            matches=n_matches,
            messages=messages,
            faults=tuple(fault for is_fine, fault in checks if not is_fine),
        )

    # -- the database ------------------------------------------------------------------------------------------------

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
    def _reading(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            yield connection.execution_options(is_reading=True)

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.begin() as connection:
            yield connection

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


def _is_due(endpoint_id: str, now: dt.datetime) -> sa.ColumnElement[bool]:
    """
    Return what holds for messages that may be tried now.

    Instants that cannot be, because the clock was set back since they were stored, hold nothing up.
    """
    is_closed = (endpoints.c.state == EndpointState.DISABLED) | (
        (endpoints.c.paused_until > now) & (endpoints.c.failed_at <= now + CLOCK_SLACK)
    )
    return (
        (outbox.c.endpoint_id == endpoint_id)
        & outbox.c.due_at.is_not(None)
        & ((outbox.c.due_at <= now) | (outbox.c.scheduled_at > now + CLOCK_SLACK))
        & ~sa.exists().where((endpoints.c.id == endpoint_id) & is_closed)
    )


def _health(connection: sa.Connection, endpoint_id: str) -> EndpointHealth:
    row = connection.execute(sa.select(endpoints).where(endpoints.c.id == endpoint_id)).mappings().one_or_none()
    if row is None:
        return EndpointHealth()
    values = {key: value for key, value in row.items() if key not in {"id", "state"}}
    return EndpointHealth(state=EndpointState(row["state"]), **values)


def _store_health(
    connection: sa.Connection,
    endpoint_id: str,
    before: EndpointHealth,
    after: EndpointHealth,
    now: dt.datetime,
    notices: Sequence[Message],
) -> bool:
    mine = endpoints.c.id == endpoint_id
    state = connection.scalar(sa.select(endpoints.c.state).where(mine))
    if (state or EndpointState.WORKING) != before.state:
        return False
    values = {field.name: getattr(after, field.name) for field in fields(after)}
    values |= {"state": str(after.state), "reason": after.reason[:_MAX_DETAIL]}
    if state is None:
        connection.execute(endpoints.insert(), {"id": endpoint_id, **values})
    else:
        connection.execute(endpoints.update().where(mine).values(**values))
    for notice in notices:
        connection.execute(outbox.insert(), _outbox_row(notice, None, now))
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _damage(connection: sa.Connection) -> str:
    """Return what SQLite finds wrong with its file; nothing when that is nothing, or the database is another one."""
    if connection.dialect.name != "sqlite":
        return ""
    found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    return "" if found == "ok" else found


_IS_OPEN = outbox.c.state != "delivered"
_IS_FORGETTABLE = files.c.state != "scored"  # a scored one is what the audit counts articles by


def _delete(connection: sa.Connection, table: sa.Table, which: sa.ColumnElement[bool]) -> int:
    some = sa.select(table.c.id).where(which).limit(PRUNE_ROWS).scalar_subquery()
    return connection.execute(table.delete().where(table.c.id.in_(some))).rowcount


def _old_attempts(before: dt.datetime) -> sa.ColumnElement[bool]:
    of_delivered = sa.exists().where((outbox.c.id == attempts.c.message_id) & (outbox.c.state == "delivered"))
    return (attempts.c.tried_at < before) & of_delivered


def _forget_bodies(connection: sa.Connection, before: dt.datetime) -> int:
    which = (outbox.c.settled_at < before) & (outbox.c.state == "delivered") & (sa.func.length(outbox.c.body) > 0)
    some = sa.select(outbox.c.id).where(which).limit(PRUNE_ROWS).scalar_subquery()
    return connection.execute(outbox.update().where(outbox.c.id.in_(some)).values(body=b"")).rowcount


def _forget_matches(connection: sa.Connection, before: dt.datetime) -> int:
    """Delete old matches together with their messages and tries, so that the books still add up."""
    of_match = (outbox.c.article_id == matches.c.article_id) & (outbox.c.rule_id == matches.c.rule_id)
    some = (
        sa.select(matches.c.article_id, matches.c.rule_id)
        .where((matches.c.created_at < before) & ~sa.exists().where(of_match & _IS_OPEN))
        .limit(PRUNE_ROWS)
    )
    forgotten = 0
    for article_id, rule_id in connection.execute(some).all():
        of_this = (outbox.c.article_id == article_id) & (outbox.c.rule_id == rule_id)
        messages = sa.select(outbox.c.id).where(of_this).scalar_subquery()
        connection.execute(attempts.delete().where(attempts.c.message_id.in_(messages)))
        connection.execute(outbox.delete().where(of_this))
        of_this = (matches.c.article_id == article_id) & (matches.c.rule_id == rule_id)
        forgotten += connection.execute(matches.delete().where(of_this)).rowcount
    return forgotten


class _Rows:
    """Collects the rows of several verdicts, by table, in an order that foreign keys allow."""

    def __init__(self, now: dt.datetime) -> None:
        self._now = now
        self.by_table: dict[sa.Table, list[dict[str, object]]] = {articles: [], files: [], matches: [], outbox: []}

    def add(self, file: FileVersion, verdict: Verdict, *, is_known: bool) -> FileState | None:
        """Add what follows from one verdict; *is_known* says whether its bytes have been scored before."""
        match verdict:
            case Scored() if not is_known:
                self._add_article(verdict)
                return self._add_file(file, "scored", article_id=verdict.article.id)
            case Scored():
                return self._add_file(file, "duplicate", article_id=verdict.article.id)
            case Duplicate():
                return self._add_file(file, "duplicate", article_id=verdict.sha256) if is_known else None
            case Rejected():
                return self._add_file(file, "rejected", reason=verdict.reason, detail=verdict.detail[:_MAX_DETAIL])

    def _add_file(
        self,
        file: FileVersion,
        state: FileState,
        *,
        article_id: str | None = None,
        reason: str | None = None,
        detail: str | None = None,
    ) -> FileState:
        row = dict(zip(_VERSION, _key(file), strict=True))
        row |= {"state": state, "reason": reason, "detail": detail, "article_id": article_id, "recorded_at": self._now}
        self.by_table[files].append(row)
        return state

    def _add_article(self, scored: Scored) -> None:
        article, tags = scored.article, scored.tags
        self.by_table[articles].append(
            {
                "id": article.id,
                "title": article.title,
                "date": article.date.isoformat() if article.date else None,
                "publisher": article.publisher,
                "tags": json.dumps(
                    {facet: [tag_record(tag) for tag in found] for facet, found in tags.by_facet.items()}
                ),
                "abstained": tags.abstained,
                "model": scored.model,
                "scored_at": self._now,
            }
        )
        for match in scored.matches:
            self.by_table[matches].append(
                {
                    "article_id": article.id,
                    "rule_id": match.rule.id,
                    "rule_version": match.rule.version,
                    "n_messages": sum(message.rule_id == match.rule.id for message in scored.messages),
                    "created_at": self._now,
                }
            )
        self.by_table[outbox] += [_outbox_row(message, article.id, self._now) for message in scored.messages]


_VERSION = ("path", "size", "mtime_ns", "ctime_ns", "inode")
_Key = tuple[str, int, int, int, str]


def _key(file: FileVersion) -> _Key:
    return file.path, file.size, file.mtime_ns, file.ctime_ns, str(file.inode)


def _recorded(connection: sa.Connection, versions: Sequence[FileVersion]) -> set[_Key]:
    """Return all recorded versions of the files with these paths."""
    query = sa.select(*(files.c[name] for name in _VERSION))
    found: set[_Key] = set()
    for some in _batched([version.path for version in versions]):
        found.update(map(tuple, connection.execute(query.where(files.c.path.in_(some)))))
    return found


def _scored(connection: sa.Connection, sha256s: Collection[str]) -> set[str]:
    found: set[str] = set()
    for some in _batched(list(sha256s)):
        found.update(connection.scalars(sa.select(articles.c.id).where(articles.c.id.in_(some))))
    return found


def _batched(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _MAX_IN] for start in range(0, len(values), _MAX_IN))


def _digest(verdict: Verdict) -> str | None:
    match verdict:
        case Scored():
            return verdict.article.id
        case Duplicate():
            return verdict.sha256
        case Rejected():
            return None


def _outbox_row(message: Message, article_id: str | None, now: dt.datetime) -> dict[str, object]:
    return {
        "id": message.id,
        "article_id": article_id,
        "rule_id": message.rule_id,
        "endpoint_id": message.endpoint_id,
        "body": message.body,
        "state": "pending",
        "attempts": 0,
        "attempts_before_retry": 0,
        "due_at": now,
        "scheduled_at": now,
        "created_at": now,
    }


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
