"""This module is imported by the process from which those of a run are forked.

Each of them then finds the definitions made and the instance's storage imported, which takes 0.7 s of a processor.
"""

import os

import dagster_postgres  # noqa: F401 - what it costs is all that is wanted of it

from sequin_pipeline.environment.settings import SEQUIN_COLLECTIONS
from sequin_pipeline.orchestration.definitions import loaded_definitions

loaded_definitions(os.environ.get(SEQUIN_COLLECTIONS))
