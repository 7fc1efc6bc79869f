"""The doctor looks at everything that a run needs, without changing anything.

A check is a function from the patient to its findings; what it cannot find out because of an error of ours is a finding too. A new one
is a function and its line in CHECKS.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg

from sequin_pipeline.errors import PipelineError
from sequin_pipeline.operate.doctor.accounts import accounts
from sequin_pipeline.operate.doctor.apis import apis
from sequin_pipeline.operate.doctor.connectors import connectors
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.operate.doctor.machine import disk, versions
from sequin_pipeline.operate.doctor.queues import queues
from sequin_pipeline.operate.doctor.source import other_sources, records_api
from sequin_pipeline.operate.doctor.storage import dagster_storage
from sequin_pipeline.operate.doctor.warehouse import warehouse
from sequin_pipeline.postgres.warehouse import explain


@dataclass(frozen=True)
class Check:
    """A check is a function, with `name` and `fix` for the finding when the check itself fails.

    `needs_databases`: it is left out while the embedded Postgres does not run.
    """

    name: str
    look: Callable[[Patient], Iterator[Finding]]
    fix: str
    needs_databases: bool = False


CHECKS: tuple[Check, ...] = (
    Check("versions", versions, "install the project as its README says"),
    Check("disk", disk, "the message says what to do"),
    Check("warehouse", warehouse, "fix WAREHOUSE_URL, or start the server that it names", needs_databases=True),
    Check(
        "Dagster storage", dagster_storage, "fix DAGSTER_POSTGRES_URL, or start the server that it names", needs_databases=True
    ),
    Check("records API", records_api, "look at what the source answers"),
    Check("queues", queues, "fix the variables of the source, or `queue` in the defs.yaml"),
    Check("keys", accounts, "fix the variables of the source"),
    Check("connectors", connectors, "fix `connector` in the defs.yaml, or install what it names"),
    Check("APIs", apis, "fix `api` and `read` in the defs.yaml, or the variables that they name"),
    Check("sources", other_sources, "fix the variables of the source"),
)


def examine(patient: Patient, *, has_databases: bool = True) -> Iterator[Finding]:
    """Yields each finding as soon as it is there; raises nothing that a check can meet."""
    for check in CHECKS:
        if check.needs_databases and not has_databases:
            continue
        try:
            yield from check.look(patient)
        except psycopg.Error as error:
            yield Finding(check.name, "problem", str(explain(error, f"looking at the {check.name}")), check.fix)
        except PipelineError as error:
            yield Finding(check.name, "problem", str(error), check.fix)
