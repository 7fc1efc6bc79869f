"""Each Python that the tests start runs this first.

While it imports, it would search for garbage that there is not, and once more when it ends: for a third of the time.
"""

import atexit
import gc

gc.set_threshold(20_000, 10, 10)
atexit.register(gc.freeze)
