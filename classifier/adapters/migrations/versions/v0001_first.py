"""The first schema: files, articles, matches, outbox, attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "articles",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("date", sa.String(10)),
        sa.Column("publisher", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("abstained", sa.String(32)),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("scored_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "files",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("ctime_ns", sa.BigInteger, nullable=False),
        sa.Column("inode", sa.String(20), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32)),
        sa.Column("detail", sa.Text),
        sa.Column("article_id", sa.String(64), sa.ForeignKey("articles.id")),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("path", "size", "mtime_ns", "ctime_ns", "inode", name="uq_files_version"),
    )
    op.create_table(
        "matches",
        sa.Column("article_id", sa.String(64), sa.ForeignKey("articles.id"), primary_key=True),
        sa.Column("rule_id", sa.String(64), primary_key=True),
        sa.Column("rule_version", sa.String(8), nullable=False),
        sa.Column("n_messages", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("article_id", sa.String(64), nullable=False),
        sa.Column("rule_id", sa.String(64), nullable=False),
        sa.Column("endpoint_id", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("attempts_before_retry", sa.Integer, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("token", sa.String(32)),
        sa.Column("last_result", sa.String(32)),
        sa.Column("last_detail", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("settled_at", sa.BigInteger),
        sa.ForeignKeyConstraint(["article_id", "rule_id"], ["matches.article_id", "matches.rule_id"]),
    )
    op.create_index("ix_outbox_due", "outbox", ["endpoint_id", "due_at"])
    op.create_table(
        "attempts",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("message_id", sa.String(64), sa.ForeignKey("outbox.id"), nullable=False),
        sa.Column("result", sa.String(32), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("tried_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_attempts_message_id", "attempts", ["message_id"])
