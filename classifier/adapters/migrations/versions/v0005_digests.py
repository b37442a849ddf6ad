"""
Silences, and alerts put aside for digests.

Each match says how many endpoints it is for, so that an audit can count what became of each.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0005"
down_revision = "v0004"
branch_labels = None
depends_on = None

_N_HELD = "(SELECT count(*) FROM held WHERE held.article_id = matches.article_id AND held.rule_id = matches.rule_id)"


def upgrade() -> None:
    """Create the table and the columns."""
    op.create_table(
        "silences",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("rule_id", sa.Text),
        sa.Column("label", sa.Text),
        sa.Column("story_id", sa.Text),
        sa.Column("keyword", sa.Text),
        sa.Column("endpoint_id", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.add_column("held", sa.Column("silence_id", sa.Integer))
    op.create_index("ix_held_silence_id", "held", ["silence_id"])
    op.add_column("matches", sa.Column("n_endpoints", sa.Integer, nullable=False, server_default="0"))
    op.execute(f"UPDATE matches SET n_endpoints = n_messages + {_N_HELD}")  # noqa: S608 - our own text
    op.create_table(
        "aside",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("article_id", sa.String(64), nullable=False),
        sa.Column("rule_id", sa.String(64), nullable=False),
        sa.Column("endpoint_id", sa.String(64), nullable=False),
        sa.Column("story_id", sa.String(64)),
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
