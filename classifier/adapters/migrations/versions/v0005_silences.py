"""Silences; and each match says how many endpoints it is for, so that an audit can count what became of each."""

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
