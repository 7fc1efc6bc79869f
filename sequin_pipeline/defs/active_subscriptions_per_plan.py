"""This asset shows what can be built on a synced table: it takes a frame and returns one, which the IO manager merges by key.

It is in the provider's group, so that the provider's job and schedule run it after the collection it is built on.
"""

import dagster as dg
import pandas as pd


@dg.asset(
    key=["stripe", "active_subscriptions_per_plan"],
    ins={"subscription": dg.AssetIn(key=["stripe", "subscription"])},
    group_name="stripe",
    description="How many subscriptions are active on each plan, and with what quantity; 0 where there were some once.",
    kinds={"postgres", "pandas"},
    io_manager_key="sequin_io_manager",
    metadata={
        "dagster/table_name": "stripe.active_subscriptions_per_plan",
        "sequin_pipeline/key": ["plan_id"],
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn("plan_id", type="text"),
                dg.TableColumn("currency", type="text"),
                dg.TableColumn("subscriptions", type="bigint"),
                dg.TableColumn("quantity", type="bigint"),
            ]
        ),
    },
)
def active_subscriptions_per_plan(subscription: pd.DataFrame) -> pd.DataFrame:
    """A plan without active subscriptions keeps its row: a merge by key adds and changes rows, and takes none away."""
    is_active = (subscription["status"] == "active").fillna(False) & ~subscription["deleted"]
    counted = pd.DataFrame(
        {
            "plan_id": subscription["plan_id"],
            "currency": subscription["currency"],
            "subscriptions": is_active.astype("int64[pyarrow]"),
            "quantity": subscription["quantity"].fillna(0).where(is_active, 0).astype("int64[pyarrow]"),
        }
    )
    return counted.groupby("plan_id", as_index=False).agg({"currency": "first", "subscriptions": "sum", "quantity": "sum"})
