"""Packages of the system that some tests need: Chromium and pgbouncer. They are left out where that is asked for."""

import os

SKIP_SYSTEM = os.environ.get("SKIP_SYSTEM") == "1"
LEFT_OUT = "SKIP_SYSTEM=1 leaves out what needs a package of the system"
