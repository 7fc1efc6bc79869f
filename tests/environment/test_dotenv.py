"""`.env` holds the user's lines and ours, and each stays what it is."""

import stat
import subprocess
from pathlib import Path

import dotenv
import pytest

from sequin_pipeline.environment.dotenv import read_dotenv, write_dotenv
from sequin_pipeline.errors import ConfigurationError

URL = "postgresql://postgres@/warehouse?host=/a%20b/run&port=5432"


def test_the_users_lines_stay_as_they_are_and_ours_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nSEQUIN_API_TOKEN = hush\n\nexport OTHER='x'")
    write_dotenv(path, {"WAREHOUSE_URL": "stale", "DAGSTER_HOME": "stale"})

    write_dotenv(path, {"WAREHOUSE_URL": URL})

    assert path.read_text() == (
        "# mine\nSEQUIN_API_TOKEN = hush\n\nexport OTHER='x'\n"
        'WAREHOUSE_URL="${WAREHOUSE_URL:-postgresql://postgres@/warehouse?host=/a%20b/run&port=5432}"  # written by sequin-pipeline\n'
    )


def test_the_file_is_closed_to_others_even_if_it_was_open(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("MINE=1\n")
    path.chmod(0o644)

    write_dotenv(path, {"WAREHOUSE_URL": URL})

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [".env"]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("exported", "read"),
    [
        pytest.param({}, URL, id="nothing exported"),
        pytest.param({"WAREHOUSE_URL": "postgresql://you@db.example/w"}, "postgresql://you@db.example/w", id="exported"),
        pytest.param({"OTHER_URL": "x"}, URL, id="another variable"),
    ],
)
def test_dagster_and_a_shell_read_the_value_that_was_written_unless_another_is_exported(
    exported: dict[str, str], read: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".env"
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)
    for name, value in exported.items():
        monkeypatch.setenv(name, value)

    write_dotenv(path, {"WAREHOUSE_URL": URL})

    shell = subprocess.run(["sh", "-c", '. "$0"; printf %s "$WAREHOUSE_URL"', path], check=True, capture_output=True, text=True)
    assert dotenv.dotenv_values(path) == {"WAREHOUSE_URL": read}
    assert shell.stdout == read


def test_a_path_with_an_apostrophe_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)

    write_dotenv(tmp_path / ".env", {"DAGSTER_HOME": "/home/o'hara"})

    assert dotenv.dotenv_values(tmp_path / ".env") == {"DAGSTER_HOME": "/home/o'hara"}


def test_our_own_lines_are_not_read_back(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("MINE=1\n")
    write_dotenv(path, {"WAREHOUSE_URL": URL})

    assert read_dotenv(path) == {"MINE": "1"}


def test_no_values_make_no_file_and_take_our_lines_out_of_one(tmp_path: Path) -> None:
    missing, existing = tmp_path / ".env", tmp_path / "existing"
    existing.write_text("MINE=1\n")
    write_dotenv(existing, {"WAREHOUSE_URL": URL})

    write_dotenv(missing, {})
    write_dotenv(existing, {})

    assert not missing.exists()
    assert existing.read_text() == "MINE=1\n"


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("MINE=1\n")
    (tmp_path / ".env").symlink_to("shared")

    write_dotenv(tmp_path / ".env", {"DAGSTER_HOME": "/srv"})

    assert (tmp_path / ".env").is_symlink()
    assert (tmp_path / "shared").read_text() == 'MINE=1\nDAGSTER_HOME="${DAGSTER_HOME:-/srv}"  # written by sequin-pipeline\n'


@pytest.mark.parametrize("value", ['say "x"', "a\nb", "${HOME}", "$HOME", "`ls`", "a}b", "back\\slash"])
def test_a_value_that_would_be_read_differently_is_refused_and_the_file_stays(tmp_path: Path, value: str) -> None:
    path = tmp_path / ".env"
    path.write_text("MINE=1\n")

    with pytest.raises(ConfigurationError, match="the value of DAGSTER_HOME cannot be written"):
        write_dotenv(path, {"DAGSTER_HOME": value})

    assert path.read_text() == "MINE=1\n"


def test_a_folder_that_is_gone_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="could not be written: No such file or directory"):
        write_dotenv(tmp_path / "gone" / ".env", {"DAGSTER_HOME": "/srv"})
