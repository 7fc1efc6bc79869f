"""Dagster's home where nobody brings one: made once, kept up to date, and left alone once somebody has changed it."""

import stat
from pathlib import Path

import pytest
import yaml

from sequin_pipeline.environment.dagster_home import default_dagster_home, write_dagster_home
from sequin_pipeline.errors import ConfigurationError
from tests.support.checkout import CHECKOUT


def test_the_home_lies_below_the_pipelines_own() -> None:
    assert default_dagster_home({"SEQUIN_PIPELINE_HOME": "/srv/pipeline"}) == Path("/srv/pipeline/dagster")


@pytest.mark.parametrize("name", ["dagster.yaml", "workspace.yaml"])
def test_a_new_home_says_what_the_checkout_says(tmp_path: Path, name: str) -> None:
    write_dagster_home(tmp_path / "dagster")

    written = yaml.safe_load((tmp_path / "dagster" / name).read_text())
    assert written == yaml.safe_load((CHECKOUT / name).read_text())
    assert stat.S_IMODE((tmp_path / "dagster").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda text: text.replace("default_limit: 4", "default_limit: 9"), id="a value"),
        pytest.param(lambda text: text.partition("\n")[2], id="the first line taken out"),
        pytest.param(lambda text: text + "# mine\n", id="a line added"),
        pytest.param(lambda text: "", id="emptied"),
    ],
)
def test_a_file_that_somebody_changed_stays(tmp_path: Path, changed) -> None:
    path = tmp_path / "dagster.yaml"
    write_dagster_home(tmp_path)
    path.write_text(changed(path.read_text()))
    before = path.read_text()

    write_dagster_home(tmp_path)

    assert path.read_text() == before


def test_a_file_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "dagster.yaml"
    write_dagster_home(tmp_path)
    current = path.read_text()
    path.write_text(
        "# Written by sequin-pipeline, until somebody changes it: a changed file stays as it is. (a3591ae5811d4744)\n"
        "telemetry: {enabled: true}\n"
    )

    write_dagster_home(tmp_path)

    assert path.read_text() == current


def test_a_home_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError) as refusal:
        write_dagster_home(tmp_path / "file" / "dagster")

    assert str(refusal.value) == (
        f"Dagster keeps its state in '{tmp_path}/file/dagster', but Not a directory for '{tmp_path}/file/dagster': set "
        "SEQUIN_PIPELINE_HOME to a folder that this account may write, or DAGSTER_HOME to one that holds a dagster.yaml"
    )
