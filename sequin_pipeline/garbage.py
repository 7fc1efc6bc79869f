"""This module spares Python the search for garbage among what was imported, which stays until the process ends."""

import atexit
import gc

LOOKED_AFTER = 20_000
"""Python looks for garbage when it has made this many more objects than it gave back; by default it does after 700."""


def spare_imports() -> None:
    """Makes this process look for garbage less often, and not once more when it ends.

    Dagster, pandas and Arrow are a million objects. Python would look at each of them several times while they are imported, and again at
    the end: a third of the processor time of a short command. Garbage that arises later is found as before; no object of ours relies on a
    search at the end (docs.python.org, `object.__del__`: it is not guaranteed).
    """
    gc.set_threshold(LOOKED_AFTER, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)
