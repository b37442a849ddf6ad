"""The tables of the ledger, as the newest migration leaves them."""

import datetime as dt
import re
from typing import Any

import sqlalchemy as sa

from classifier.delivery import Message


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


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # PostgreSQL holds no NUL, no database half a character


def storable(text: str) -> str:
    r"""
    Return *text* as every database can hold it: NUL characters and lone surrogates become U+FFFD.

    >>> storable("a\0b\ud800") == "a\ufffdb\ufffd"
    True
    """
    if text.isascii() and "\0" not in text:  # nearly always, and asked for every text that is stored
        return text
    return _UNSTORABLE.sub("\ufffd", text)


class AnyText(sa.TypeDecorator[str]):
    """Text that others wrote: whatever is in it, it can be stored and looked for."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002, D102
        return None if value is None else storable(value)


VERSION = "v0008"  # the newest migration; later ones have greater names
MAX_DETAIL = 500  # characters of a sentence about what went wrong

metadata = sa.MetaData()


def _where(condition: sa.ColumnElement[bool]) -> dict[str, Any]:
    """Return the options of an index that holds only some of the rows."""
    return {"sqlite_where": condition, "postgresql_where": condition}


articles = sa.Table(
    "articles",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # SHA-256 of the bytes
    sa.Column("title", AnyText, nullable=False),
    sa.Column("date", sa.String(10)),
    sa.Column("publisher", AnyText, nullable=False),
    sa.Column("tags", sa.Text, nullable=False),  # JSON: facet to tag records
    sa.Column("abstained", sa.String(32)),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("scored_at", UtcDateTime, nullable=False),
    sa.Column("story_id", sa.String(64)),  # the article that told the story first; NULL for one without tags
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("path", AnyText, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("ctime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.String(20), nullable=False),  # can exceed a signed 64-bit integer
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(32)),
    sa.Column("detail", AnyText),
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
    sa.Column("labels", sa.Text),  # JSON: those that met the rule; NULL in rows older than this column
    sa.Column("n_endpoints", sa.Integer, nullable=False),  # each gets a message of its own, or there is a row why not
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
    sa.Column("last_detail", AnyText),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("settled_at", UtcDateTime),
    sa.ForeignKeyConstraint(["article_id", "rule_id"], ["matches.article_id", "matches.rule_id"]),
    sa.Index("ix_outbox_due", "endpoint_id", "due_at", "scheduled_at"),
    sa.Index("ix_outbox_match", "article_id", "rule_id"),
)
sa.Index("ix_outbox_open", outbox.c.state, **_where(outbox.c.state != "delivered"))
sa.Index("ix_outbox_body", outbox.c.settled_at, **_where(sa.func.length(outbox.c.body) > 0))
sa.Index("ix_files_recorded_at", files.c.recorded_at)
sa.Index("ix_files_forgettable", files.c.recorded_at, **_where(files.c.state != "scored"))
sa.Index("ix_matches_created_at", matches.c.created_at)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("message_id", sa.ForeignKey("outbox.id"), nullable=False, index=True),
    sa.Column("result", sa.String(32), nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("detail", AnyText, nullable=False),
    sa.Column("tried_at", UtcDateTime, nullable=False, index=True),
)

sa.Index("ix_files_article_id", files.c.article_id)

tellings = sa.Table(  # of the last weeks: what newer articles are compared with
    "tellings",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("article_id", sa.ForeignKey("articles.id"), nullable=False, unique=True),
    sa.Column("story_id", sa.String(64), nullable=False, index=True),
    sa.Column("source", AnyText, nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
    sa.Column("wording", sa.LargeBinary, nullable=False),
    sa.Column("packed", sa.LargeBinary, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False, index=True),
    sa.Index("ix_tellings_source", "source", "seen_at"),
)

bands = sa.Table(
    "bands",
    metadata,
    sa.Column("band", sa.BigInteger, primary_key=True, autoincrement=False),
    # No foreign key: each deleted telling would be looked for in the whole table. It is deleted by its bands instead.
    sa.Column("telling_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

fresh = sa.Table(  # tellings whose keys are not in `bands` yet
    "fresh",
    metadata,
    sa.Column("telling_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
)

told = sa.Table(
    "told",
    metadata,
    sa.Column("story_id", sa.String(64), primary_key=True),
    sa.Column("rule_id", sa.String(64), primary_key=True),
    sa.Column("endpoint_id", sa.String(64), primary_key=True),
    sa.Column("labels", sa.Text, nullable=False),  # JSON: a list
    sa.Column("told_at", UtcDateTime, nullable=False, index=True),
)

held = sa.Table(
    "held",
    metadata,
    sa.Column("article_id", sa.String(64), primary_key=True),
    sa.Column("rule_id", sa.String(64), primary_key=True),
    sa.Column("endpoint_id", sa.String(64), primary_key=True),
    sa.Column("reason", AnyText, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False, index=True),
    sa.Column("silence_id", sa.Integer, index=True),  # which one; NULL when the reason is another
    sa.ForeignKeyConstraint(["article_id", "rule_id"], ["matches.article_id", "matches.rule_id"]),
)

aside = sa.Table(  # alerts that are told in a digest
    "aside",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("article_id", sa.String(64), nullable=False),
    sa.Column("rule_id", sa.String(64), nullable=False),
    sa.Column("endpoint_id", sa.String(64), nullable=False),
    sa.Column("story_id", sa.String(64)),
    sa.Column("alert_id", sa.String(64), nullable=False, unique=True),  # what people name it by
    sa.Column("summary", sa.Text, nullable=False),  # JSON; empty once the digest's body is forgotten
    sa.Column("strength", sa.Float, nullable=False),  # highest score of a tag that met the rule, and 1 if it is sure
    sa.Column("reason", sa.String(16), nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=False),  # when the digest is made
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("message_id", sa.ForeignKey("outbox.id"), index=True),  # the digest it is in; NULL until it is made
    sa.ForeignKeyConstraint(["article_id", "rule_id"], ["matches.article_id", "matches.rule_id"]),
    sa.UniqueConstraint("article_id", "rule_id", "endpoint_id", name="uq_aside_alert"),
)
sa.Index("ix_aside_waiting", aside.c.endpoint_id, aside.c.due_at, **_where(aside.c.message_id.is_(None)))
sa.Index("ix_outbox_made", outbox.c.endpoint_id, outbox.c.created_at, **_where(outbox.c.article_id.is_not(None)))

feedback = sa.Table(  # what people said: never forgotten, never changed
    "feedback",
    metadata,
    sa.Column(
        "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True
    ),  # the last word is the highest
    sa.Column("submission_id", sa.String(64), nullable=False),  # of a callback its webhook-id
    sa.Column("position", sa.Integer, nullable=False),  # within the submission
    sa.Column("article_id", sa.ForeignKey("articles.id"), nullable=False, index=True),
    sa.Column("alert_id", sa.String(64)),  # no foreign key: the message is forgotten some day
    sa.Column("rule_id", sa.String(64)),
    sa.Column("verdict", sa.String(8), nullable=False),
    sa.Column("label", sa.String(64)),  # NULL for an alert that is wrong in nobody knows which of its labels
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("note", AnyText, nullable=False),
    sa.Column("given_by", AnyText, nullable=False),
    sa.Column("via", sa.String(16), nullable=False),
    sa.Column("given_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("submission_id", "position", name="uq_feedback_submission"),
)

marks = sa.Table(  # when something happened last
    "marks",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
)

silences = sa.Table(
    "silences",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("reason", AnyText, nullable=False),
    sa.Column("until", UtcDateTime, nullable=False),
    sa.Column("rule_id", AnyText),  # what it names; NULL for what it does not
    sa.Column("label", AnyText),
    sa.Column("story_id", AnyText),
    sa.Column("keyword", AnyText),
    sa.Column("endpoint_id", AnyText),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", AnyText, nullable=False),
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

file_claims = sa.Table(  # who is at work on which file, where several daemons share a ledger
    "file_claims",
    metadata,
    sa.Column("path", AnyText, primary_key=True),
    sa.Column("owner", sa.String(32), nullable=False),
    sa.Column("until", UtcDateTime, nullable=False),
    sa.Index("ix_file_claims_owner", "owner"),
    sa.Index("ix_file_claims_until", "until"),
)

rates = sa.Table(  # how far the tries of an endpoint have used up what its rate allows
    "rates",
    metadata,
    sa.Column("endpoint_id", sa.String(64), primary_key=True),
    sa.Column("used_until", UtcDateTime, nullable=False),
)

IS_OPEN = outbox.c.state != "delivered"


def outbox_row(message: Message, article_id: str | None, now: dt.datetime) -> dict[str, object]:
    """Return a new row of the outbox."""
    return {
        "id": message.id,
        "article_id": article_id,
        "rule_id": message.rule_id,
        "endpoint_id": message.endpoint_id,
        "body": message.body,
        "state": "pending",
        "attempts": 0,
        "attempts_before_retry": 0,
        "due_at": max(now, message.not_before or now),
        "scheduled_at": now,
        "created_at": now,
    }
