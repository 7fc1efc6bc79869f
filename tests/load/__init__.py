"""`make load`: many collections of many tenants that change all the time, live runs each minute and backfills beside them.

Not part of the suite: it measures a machine for minutes. What it prints is in docs/reliability.md.
"""
