"""docs/ui.md explains the numbers of a materialization in the words of the asset's own definition."""

from collections.abc import Mapping

import pytest

from sequin_pipeline.orchestration.run_metadata import COUNT_DESCRIPTIONS, RUN_DESCRIPTIONS
from tests.support.checkout import CHECKOUT

HEADING = "| number | is |\n| --- | --- |\n"


@pytest.mark.parametrize(
    ("place", "descriptions"),
    [pytest.param(1, COUNT_DESCRIPTIONS, id="of a window"), pytest.param(2, RUN_DESCRIPTIONS, id="of a run")],
)
def test_the_table_of_numbers_says_what_the_asset_says(place: int, descriptions: Mapping[str, str]) -> None:
    table = (CHECKOUT / "docs" / "ui.md").read_text().split(HEADING)[place].split("\n\n")[0]

    assert table.splitlines() == [f"| `{name}` | {text} |" for name, text in descriptions.items()]
