"""Stories: which articles tell one, what it is found by, what was told of it, and what was held back."""

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision = "v0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.add_column("articles", sa.Column("story_id", sa.String(64)))
    op.create_index("ix_files_article_id", "files", ["article_id"])
    op.create_table(
        "tellings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("article_id", sa.String(64), sa.ForeignKey("articles.id"), nullable=False, unique=True),
        sa.Column("story_id", sa.String(64), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("wording", sa.LargeBinary, nullable=False),
        sa.Column("packed", sa.LargeBinary, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_tellings_story_id", "tellings", ["story_id"])
    op.create_index("ix_tellings_source", "tellings", ["source", "seen_at"])
    op.create_index("ix_tellings_seen_at", "tellings", ["seen_at"])
    op.create_table(
        "bands",
        sa.Column("band", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("telling_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fresh",
        sa.Column("telling_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "told",
        sa.Column("story_id", sa.String(64), primary_key=True),
        sa.Column("rule_id", sa.String(64), primary_key=True),
        sa.Column("endpoint_id", sa.String(64), primary_key=True),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("told_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_told_told_at", "told", ["told_at"])
    op.create_table(
        "held",
        sa.Column("article_id", sa.String(64), primary_key=True),
        sa.Column("rule_id", sa.String(64), primary_key=True),
        sa.Column("endpoint_id", sa.String(64), primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["article_id", "rule_id"], ["matches.article_id", "matches.rule_id"]),
    )
    op.create_index("ix_held_created_at", "held", ["created_at"])
