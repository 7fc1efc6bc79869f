"""One run of stripe:customer in a process of its own, each page a batch, which stands still once the table holds so many rows.

Arguments: the address of the server, the URL of the warehouse, how many rows, and of `untold` to read it as a class without events and
`whole` for a server that can do all that Stripe can with lists. Prints a line once it stands.
"""

import sys
from collections.abc import Mapping

import psycopg

from sequin_pipeline.runs.outcome import Progress
from sequin_pipeline.sources.stripe.objects import LISTABLE, Listable
from tests.sources.stripe.shop import LOCALSTRIPE
from tests.sources.stripe.syncing import Runs, untold


def main(api_url: str, warehouse_url: str, rows: int, objects: Mapping[str, Listable]) -> None:
    def stand_still(progress: Progress) -> None:
        with psycopg.connect(warehouse_url) as connection:
            (stored,) = connection.execute("select count(*) from stripe.customer").fetchone() or (0,)
        if stored >= rows:
            sys.stdout.write(f"{progress.label} stands still\n")
            sys.stdout.flush()
            sys.stdin.read()  # ends with whoever started us, should nobody kill us

    Runs(api_url, warehouse_url, objects=objects).sync("customer", batch_records=1, report=stand_still)


if __name__ == "__main__":
    options = sys.argv[4:]
    known: Mapping[str, Listable] = LISTABLE if "whole" in options else LOCALSTRIPE
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), untold(known) if "untold" in options else known)
