"""The type of `data`: a collection's own word, else its provider's, else jsonb."""

import pytest

from tests.support.declarations import declared


@pytest.mark.parametrize(
    ("provider", "collection", "expected"),
    [("", "", "jsonb"), ("data: json", "", "json"), ("", "data: json", "json"), ("data: json", "data: jsonb", "jsonb")],
)
def test_a_collection_s_own_type_of_data_stands_above_its_provider_s(provider: str, collection: str, expected: str) -> None:
    (of,) = declared(f"provider: stripe\n{provider}\ncollections: {{charge: {{{collection}}}}}")

    assert of.data_type == expected


def test_the_column_of_an_application_s_own_table_keeps_deciding_where_the_provider_says_json() -> None:
    table = "table: {name: public.charge, managed: false, columns: {id: id, data: data}}, on_delete: remove"

    managed, unmanaged = declared(f"provider: stripe\ndata: json\ncollections: {{dispute: , charge: {{{table}}}}}")

    assert (managed.data_type, unmanaged.data_type) == ("json", "jsonb")
