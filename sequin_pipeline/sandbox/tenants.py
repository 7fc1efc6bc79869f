"""The sandbox has three accounts at each provider, with and without an id of the tenant in the user's own system."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from sequin_pipeline.sandbox.objects import Provider
from sequin_pipeline.sandbox.objects.github import GITHUB
from sequin_pipeline.sandbox.objects.hubspot import HUBSPOT
from sequin_pipeline.sandbox.objects.salesforce import SALESFORCE
from sequin_pipeline.sandbox.objects.stripe import STRIPE
from sequin_pipeline.sandbox.records import SyncInfo

PROVIDERS = (STRIPE, SALESFORCE, HUBSPOT, GITHUB)

STREAM_ID = "default"

TENANTS: tuple[tuple[str, str | None, Mapping[str, object]], ...] = (
    ("Alder Analytics", "acct_1001", {"plan": "enterprise", "region": "eu-north-1"}),
    ("Kestrel Foods", "acct_ø_1002", {"plan": "team", "seats": 12, "tags": ["pilot", None]}),
    ("Tidewater Labs", None, {}),
)
"""These are name, external id and metadata of the tenant behind a sync, the largest first."""

SYNC_IDS = {
    "stripe": (
        "6f0d1c52-41c6-4d0e-9a0b-2d6c1be0a101",
        "b3a9d1f4-7a57-4f53-8c0e-95d1a1c7a102",
        "0c8e6e1b-2f3d-4b8a-b6f9-7e54d20fa103",
    ),
    "salesforce": (
        "9e2b7c08-5f41-47aa-8d3e-c1f0b7d9b201",
        "41d7f6aa-0b9c-4e1d-a2c5-08f6e3b4b202",
        "d85a0e93-c6b2-4f7e-91d4-3ba7c5e1b203",
    ),
    "hubspot": (
        "27c4e9b1-8d60-4a3f-b7e2-f51d0a86c301",
        "f6103d7e-a94b-4c25-86f1-2e9b7d40c302",
        "7ab25c9f-13e8-4d06-9c4a-b0e6f182c303",
    ),
    "github": (
        "c09f4e3a-6b7d-4125-8ea3-1d57f2c9d401",
        "58e1b7d2-f04c-4a9e-bd36-97c0a4e3d402",
        "e3d6a80b-92f5-4c71-a58f-604bd1e7d403",
    ),
}


def syncs_of(provider: Provider) -> Iterator[SyncInfo]:
    """Yields the provider's syncs in the order of TENANTS."""
    for sync_id, (name, external_id, metadata) in zip(SYNC_IDS[provider.name], TENANTS, strict=True):
        yield SyncInfo(
            id=sync_id,
            name=name,
            provider=provider.name,
            stream_id=STREAM_ID,
            collection_ids=tuple(f"{provider.name}:{kind.name}" for kind in provider.kinds),
            external_id=external_id,
            metadata=metadata,
            initial_backfill_completed_at=datetime(2024, 1, 5, tzinfo=UTC),
        )
