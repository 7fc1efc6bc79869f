"""Real faults, each provoked against the whole path from HTTP to a table in Postgres, each ending in the right table or in a clear
error after which the next run ends in the right table.

`landing.py` is a table with what must hold for it after any run, `faulty_api.py` a server that fails on demand, `phases.py` holds
a batch where a test wants it, `small_disk.py` and `pooler.py` stand under and before Postgres. The tests are the rows of
docs/reliability.md, one to one, which test_reliability_page.py compares.
"""
