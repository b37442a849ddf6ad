"""What is remembered of endpoints and their keys; messages that belong to no article; when a message was scheduled."""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_OUTBOX = """
id, article_id, rule_id, endpoint_id, body, state, attempts, attempts_before_retry, due_at, token, last_result,
last_detail, created_at, settled_at
"""


def upgrade() -> None:
    """Add the tables; loosen and extend the outbox."""
    op.create_table(
        "endpoints",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("changed_at", sa.BigInteger),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("failing_since", sa.BigInteger),
        sa.Column("failed_at", sa.BigInteger),
        sa.Column("delivered_at", sa.BigInteger),
        sa.Column("paused_until", sa.BigInteger),
    )
    op.create_table(
        "endpoint_keys",
        sa.Column("endpoint_id", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(16), primary_key=True),
        sa.Column("retired_at", sa.BigInteger, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_outbox()
    else:
        op.alter_column("outbox", "article_id", nullable=True)
        op.alter_column("outbox", "rule_id", nullable=True)
        op.add_column("outbox", sa.Column("scheduled_at", sa.BigInteger))
        op.execute("UPDATE outbox SET scheduled_at = created_at")
        op.alter_column("outbox", "scheduled_at", nullable=False)
        op.drop_index("ix_outbox_due", "outbox")
    op.create_index("ix_outbox_due", "outbox", ["endpoint_id", "due_at", "scheduled_at"])


def _rebuild_outbox() -> None:
    """
    Copy outbox and attempts into new tables: SQLite cannot loosen a column.

    The table that refers to the other goes first, so that foreign keys hold at every step; renaming carries the
    reference along.
    """
    op.create_table(
        "outbox_new",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("article_id", sa.String(64)),
        sa.Column("rule_id", sa.String(64)),
        sa.Column("endpoint_id", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("attempts_before_retry", sa.Integer, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("scheduled_at", sa.BigInteger, nullable=False),
        sa.Column("token", sa.String(32)),
        sa.Column("last_result", sa.String(32)),
        sa.Column("last_detail", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("settled_at", sa.BigInteger),
        sa.ForeignKeyConstraint(["article_id", "rule_id"], ["matches.article_id", "matches.rule_id"]),
    )
    op.create_table(
        "attempts_new",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("message_id", sa.String(64), sa.ForeignKey("outbox_new.id"), nullable=False),
        sa.Column("result", sa.String(32), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("tried_at", sa.BigInteger, nullable=False),
    )
    op.execute(f"INSERT INTO outbox_new ({_OUTBOX}, scheduled_at) SELECT {_OUTBOX}, created_at FROM outbox")  # noqa: S608
    op.execute("INSERT INTO attempts_new SELECT id, message_id, result, status, detail, tried_at FROM attempts")
    op.drop_table("attempts")
    op.drop_table("outbox")
    op.rename_table("outbox_new", "outbox")
    op.rename_table("attempts_new", "attempts")
    op.create_index("ix_attempts_message_id", "attempts", ["message_id"])
