"""The worked example of an asset that is built on a synced table."""

import pandas as pd
import pyarrow as pa

from sequin_pipeline.defs.active_subscriptions_per_plan import active_subscriptions_per_plan


def subscriptions(*rows: tuple[str | None, str | None, bool, int | None]) -> pd.DataFrame:
    types = {"plan_id": pa.string(), "status": pa.string(), "deleted": pa.bool_(), "quantity": pa.int32()}
    columns = zip(*rows, strict=True)
    frame = {name: pd.Series(list(values), dtype=pd.ArrowDtype(types[name])) for name, values in zip(types, columns, strict=True)}
    return pd.DataFrame(frame).assign(currency=pd.Series(["eur"] * len(rows), dtype=pd.ArrowDtype(pa.string())))


def test_counts_what_is_active_and_keeps_plans_that_have_none_left() -> None:
    frame = subscriptions(
        ("gold", "active", False, 2),
        ("gold", "active", False, None),
        ("gold", "canceled", False, 7),
        ("gold", "active", True, 7),
        ("iron", "canceled", False, 1),
        ("iron", None, False, 1),
        (None, "active", False, 1),
    )

    per_plan = active_subscriptions_per_plan(frame)

    assert per_plan.to_dict("records") == [
        {"plan_id": "gold", "currency": "eur", "subscriptions": 2, "quantity": 2},
        {"plan_id": "iron", "currency": "eur", "subscriptions": 0, "quantity": 0},
    ]
    assert {name: str(dtype) for name, dtype in per_plan.dtypes.items()} == {
        "plan_id": "string[pyarrow]",
        "currency": "string[pyarrow]",
        "subscriptions": "int64[pyarrow]",
        "quantity": "int64[pyarrow]",
    }


def test_an_empty_table_gives_an_empty_frame() -> None:
    frame = subscriptions(("gold", "active", False, 2)).iloc[:0]

    assert len(active_subscriptions_per_plan(frame)) == 0
