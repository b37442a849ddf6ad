"""Feedback: what people say of alerts, which labels an alert was sent for, and when the folder was looked at."""

import sqlalchemy as sa
from alembic import op

revision = "v0006"
down_revision = "v0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.add_column("matches", sa.Column("labels", sa.Text))
    op.create_index("ix_files_recorded_at", "files", ["recorded_at"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("submission_id", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("article_id", sa.String(64), sa.ForeignKey("articles.id"), nullable=False),
        sa.Column("alert_id", sa.String(64)),
        sa.Column("rule_id", sa.String(64)),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("label", sa.String(64)),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("given_by", sa.Text, nullable=False),
        sa.Column("via", sa.String(16), nullable=False),
        sa.Column("given_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("submission_id", "position", name="uq_feedback_submission"),
    )
    op.create_index("ix_feedback_article_id", "feedback", ["article_id"])
    op.create_table(
        "marks",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
