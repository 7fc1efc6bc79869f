"""The table of subscriptions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "subscription",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("upstream_id", sa.Text, nullable=False),
        sa.Column("internal_id", sa.Text),
        sa.Column("sync_id", sa.Text, nullable=False),
        sa.Column("updated_idx", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("upstream_created_at", sa.DateTime(timezone=True)),
        sa.Column("upstream_updated_at", sa.DateTime(timezone=True)),
        sa.Column("customer_id", sa.Text),
        sa.Column("status", sa.Text),
        sa.Column("plan_id", sa.Text),
        sa.Column("quantity", sa.BigInteger),
        sa.Column("current_period_end", sa.DateTime(timezone=True)),
        sa.Column("metadata", JSONB),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("subscription_upstream", "subscription", ["sync_id", "upstream_id"])


def downgrade() -> None:
    op.drop_table("subscription")
