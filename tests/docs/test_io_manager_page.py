"""The page about the IO manager: its examples run as they are printed."""

import re
from typing import Any

import psycopg
import pytest

from tests.support.checkout import CHECKOUT

pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
"""Said by Dagster of itself."""

PAGE = (CHECKOUT / "docs" / "io-manager.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```.*?```text\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page_has_two_examples() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") == 2


@pytest.mark.parametrize(("program", "printed"), EXAMPLES, ids=["a table", "partitions"])
def test_an_example_of_the_page_prints_what_the_page_says(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str, printed: str
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", warehouse_url)
    namespace: dict[str, Any] = {"__name__": "__main__"}

    exec(compile(program, "docs/io-manager.md", "exec"), namespace)

    assert capsys.readouterr().out == printed


def test_the_first_example_writes_nothing_the_second_time(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", warehouse_url)
    program = compile(EXAMPLES[0][0], "docs/io-manager.md", "exec")

    for _ in range(2):
        exec(program, {"__name__": "__main__"})

    assert capsys.readouterr().out.splitlines()[2:] == ["marts.plans 0 2", "marts.large_plans 0 1"]
    assert "`marts.plans 0 2` and `marts.large_plans 0 1`" in PAGE
    with psycopg.connect(warehouse_url) as connection:
        assert connection.execute("select count(*) from marts.large_plans").fetchone() == (1,)
