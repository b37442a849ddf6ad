"""Alerts put aside for digests."""

import sqlalchemy as sa
from alembic import op

revision = "v0008"
down_revision = "v0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and an index to count the alerts of a day by."""
    op.create_table(
        "aside",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("article_id", sa.String(64), nullable=False),
        sa.Column("rule_id", sa.String(64), nullable=False),
        sa.Column("endpoint_id", sa.String(64), nullable=False),
        sa.Column("story_id", sa.String(64)),
        sa.Column("alert_id", sa.String(64), nullable=False, unique=True),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("strength", sa.Float, nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("message_id", sa.String(64), sa.ForeignKey("outbox.id")),
        sa.ForeignKeyConstraint(["article_id", "rule_id"], ["matches.article_id", "matches.rule_id"]),
        sa.UniqueConstraint("article_id", "rule_id", "endpoint_id", name="uq_aside_alert"),
    )
    op.create_index("ix_aside_message_id", "aside", ["message_id"])
    waits, of_article = sa.text("message_id IS NULL"), sa.text("article_id IS NOT NULL")
    op.create_index("ix_aside_waiting", "aside", ["endpoint_id", "due_at"], sqlite_where=waits, postgresql_where=waits)
    op.create_index(
        "ix_outbox_made",
        "outbox",
        ["endpoint_id", "created_at"],
        sqlite_where=of_article,
        postgresql_where=of_article,
    )
