"""What an error of the connection says, and what it must not."""

import traceback

import pytest

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.postgres.warehouse import Warehouse


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("postgresql://user:hush%zzhush@h/d", id="percent sign that is not escaped"),
        pytest.param("postgresql:/user:hush@h/d", id="one slash"),
    ],
)
def test_url_that_is_not_understood_shows_nothing_of_itself(url: str) -> None:
    warehouse = Warehouse(url)

    with pytest.raises(ConfigurationError) as raised, warehouse.connect():
        pass

    assert str(raised.value).startswith("WAREHOUSE_URL is not understood: expected a libpq URL")
    assert "hush" not in "".join(traceback.format_exception(raised.value))
