"""`make bench`: what a record costs on its way from the API to its row, against the limit of Postgres and against other tools.

In the order in which they are used:

    collection.py   the collection that everybody writes, and the plan it is read by
    records.py      its records, made from their numbers, as page files
    feeds.py        the same records as each kind of source gives them
    server.py       a process that serves them
    postgres.py     the throw-away Postgres, and what it says about its own costs
    contestants.py  who competes, with how many records
    child.py        both ends of the pipe to a contestant's process (standard library only: peers have an environment of their own)
    limit.py        the limit: bytes made ready beforehand, through the same staging and merge
    pipeline.py     the pipeline itself: from HTTP to the table, and its sources alone
    peers/          what people would use instead; the fast ones as a good engineer would set them up
    rounds.py       the protocol: interleaved rounds on fresh tables
    many.py         many collections in one run (many_run.py) against what is configured; processes.py looks at /proc
    ticks.py        a schedule that ticks every minute, with daemon and code server; also `python -m bench.ticks`
    extras.py       what is measured once: each kind of source, Dagster, growth
    figures.py      from rounds to ratios
    report.py       text, JSON and the marked blocks of the documents
    chart.py        the SVG
    normalize.py    the path from page to frame alone: `python -m bench.normalize`
"""
