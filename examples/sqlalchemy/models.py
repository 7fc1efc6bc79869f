from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Index, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    metadata = MetaData()
    type_annotation_map = {
        str: Text,
        int: BigInteger,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
    }


class Subscription(Base):
    __tablename__ = "subscription"
    __table_args__ = (Index("subscription_upstream", "sync_id", "upstream_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    upstream_id: Mapped[str]
    internal_id: Mapped[str | None]
    sync_id: Mapped[str]
    updated_idx: Mapped[int]
    deleted: Mapped[bool]
    upstream_created_at: Mapped[datetime | None]
    upstream_updated_at: Mapped[datetime | None]
    customer_id: Mapped[str | None]
    status: Mapped[str | None]
    plan_id: Mapped[str | None]
    quantity: Mapped[int | None]
    current_period_end: Mapped[datetime | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    inserted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
