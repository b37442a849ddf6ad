"""Indices for what is asked of a ledger that has been kept for years: what is old, and what waits."""

import sqlalchemy as sa
from alembic import op

revision = "v0003"
down_revision = "v0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the indices."""
    op.create_index("ix_outbox_match", "outbox", ["article_id", "rule_id"])
    _create_partial("ix_outbox_open", "outbox", "state", "state != 'delivered'")
    _create_partial("ix_outbox_body", "outbox", "settled_at", "length(body) > 0")
    _create_partial("ix_files_forgettable", "files", "recorded_at", "state != 'scored'")
    op.create_index("ix_matches_created_at", "matches", ["created_at"])
    op.create_index("ix_attempts_tried_at", "attempts", ["tried_at"])


def _create_partial(name: str, table: str, column: str, where: str) -> None:
    op.create_index(name, table, [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))
