"""Random faults, drawn from a seed, against a stream that grows and changes: `python -m tests.soak --minutes 10 --seed 1`.

`growing.py` draws the stream, `trouble.py` the faults, `rounds.py` lets runs, backfills and a foreign writer work beside each other
under them, and compares at every quiet point.
"""
