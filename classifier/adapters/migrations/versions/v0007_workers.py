"""Several daemons on one ledger: who is at work on which file, and how much of an endpoint's rate is used up."""

import sqlalchemy as sa
from alembic import op

revision = "v0007"
down_revision = "v0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "file_claims",
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_file_claims_owner", "file_claims", ["owner"])
    op.create_index("ix_file_claims_until", "file_claims", ["until"])
    op.create_table(
        "rates",
        sa.Column("endpoint_id", sa.String(64), primary_key=True),
        sa.Column("used_until", sa.BigInteger, nullable=False),
    )
