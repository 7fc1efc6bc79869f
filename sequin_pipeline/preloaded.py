"""Imported by the process from which those of a run are forked: each of them finds the definitions made."""

import os

from sequin_pipeline.definitions import loaded_definitions
from sequin_pipeline.environment import SEQUIN_COLLECTIONS

loaded_definitions(os.environ.get(SEQUIN_COLLECTIONS))
