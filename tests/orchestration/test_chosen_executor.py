"""The executor that a deployment names for the jobs of collections."""

import dagster as dg
import pytest

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.orchestration.chosen_executor import chosen_executor
from sequin_pipeline.orchestration.definitions import loaded_definitions
from sequin_pipeline.orchestration.executor import collections_executor

MINE = dg.multiprocess_executor.configured({"max_concurrent": 3}, name="mine")
NO_EXECUTOR = object()


@pytest.mark.parametrize("said", [None, "", " "])
def test_without_a_word_each_run_chooses_by_its_load(said: str | None) -> None:
    assert chosen_executor({} if said is None else {"SEQUIN_EXECUTOR": said}) is collections_executor


@pytest.mark.parametrize(
    ("said", "name", "takes"),
    [
        pytest.param("in_process", "in_process", "retries", id="in process"),
        pytest.param("multiprocess", "multiprocess", "max_concurrent", id="processes"),
        pytest.param(f"{__name__}:MINE", "mine", None, id="of the user's own"),
    ],
)
def test_an_executor_is_chosen_by_its_word_and_keeps_its_config(said: str, name: str, takes: str | None) -> None:
    executor = chosen_executor({"SEQUIN_EXECUTOR": said})

    fields = getattr(executor.config_schema.config_type, "fields", {})
    assert executor.name == name
    assert takes is None or takes in fields


@pytest.mark.parametrize(
    ("said", "message"),
    [
        pytest.param(
            "kubernetes",
            "SEQUIN_EXECUTOR is 'kubernetes': expected in_process, multiprocess, celery, k8s, or an executor of your own as "
            "package.module:name; without it each run chooses by its load",
            id="unknown",
        ),
        pytest.param(
            "celery",
            "SEQUIN_EXECUTOR is 'celery', and the module 'dagster_celery' is not installed here: pip install 'sequin-pipeline[celery]', in "
            "the environment of the code server and of every worker",
            id="without its package",
        ),
        pytest.param(
            "k8s",
            "SEQUIN_EXECUTOR is 'k8s', and the module 'dagster_k8s' is not installed here: pip install 'sequin-pipeline[k8s]', in the "
            "environment of the code server and of every worker",
            id="without its package either",
        ),
        pytest.param(
            "nowhere.executors:mine",
            "SEQUIN_EXECUTOR is 'nowhere.executors:mine', and the module 'nowhere' is not installed here: install the package that has it, "
            "in the environment of the code server and of every worker",
            id="of a module that is not there",
        ),
        pytest.param(
            f"{__name__}:YOURS",
            f"SEQUIN_EXECUTOR is '{__name__}:YOURS', and the module '{__name__}' has no 'YOURS'",
            id="a name that is not there",
        ),
        pytest.param(
            f"{__name__}:NO_EXECUTOR",
            f"SEQUIN_EXECUTOR is '{__name__}:NO_EXECUTOR', which is of the class object: expected an executor of Dagster",
            id="something else",
        ),
    ],
)
def test_an_executor_that_is_not_there_is_refused_in_words(said: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        chosen_executor({"SEQUIN_EXECUTOR": said})

    assert str(raised.value) == message


def test_every_job_of_the_collections_has_the_executor_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    before = loaded_definitions(None).resolve_job_def("sync_stripe").executor_def.name
    monkeypatch.setenv("SEQUIN_EXECUTOR", "multiprocess")

    definitions = loaded_definitions(None)

    named = {job.executor_def.name for job in definitions.get_repository_def().get_all_jobs()}
    assert (before, named) == ("collections", {"multiprocess"})
