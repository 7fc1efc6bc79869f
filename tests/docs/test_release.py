"""The version stands in pyproject.toml alone; whatever names it agrees."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata, version

import pytest

from tests.support.checkout import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


@pytest.mark.processes
def test_the_installed_package_and_the_command_tell_the_version_of_pyproject_toml() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "sequin_pipeline.cli", "--version"], capture_output=True, text=True, check=True
    ).stdout

    assert version("sequin-pipeline") == PROJECT["version"]
    assert told.endswith(f", version {PROJECT['version']}\n")


def test_the_newest_section_of_the_changelog_is_this_version_and_has_a_day() -> None:
    headings = re.findall(r"^## (.*)$", (CHECKOUT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)

    assert re.fullmatch(rf"{re.escape(PROJECT['version'])} \(\d{{4}}-\d\d-\d\d\)", headings[0])


def test_no_module_writes_the_version_down() -> None:
    written = re.compile(rf"[\"']{re.escape(PROJECT['version'])}[\"']")

    places = [path.name for path in (CHECKOUT / "sequin_pipeline").rglob("*.py") if written.search(path.read_text())]

    assert places == []


def test_the_license_is_part_of_the_package() -> None:
    about = metadata("sequin-pipeline")

    assert (about["License-Expression"], about.get_all("License-File")) == ("MIT", ["LICENSE"])
    assert (CHECKOUT / "LICENSE").read_text().startswith("MIT License\n")


def test_the_classifiers_name_each_python_that_may_install_it() -> None:
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    low, high = re.findall(r"[<>=]3\.(\d+)", PROJECT["requires-python"])

    assert named == [f"3.{minor}" for minor in range(int(low), int(high))]


def test_the_package_says_that_it_shows_markdown_and_who_wrote_it() -> None:
    about = metadata("sequin-pipeline")

    assert about["Description-Content-Type"] == "text/markdown"
    assert about["Author"] == "sequin-pipeline contributors"
