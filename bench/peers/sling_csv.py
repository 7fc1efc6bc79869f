"""sling: its binary, incrementally by key from a CSV file that is written before the clock starts.

It has no mapping of JSON and no HTTP source of this kind, so it is spared both.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from bench import child
from bench.peers import mapping


def binary() -> Path:
    """The one that its wheel for this platform holds."""
    [found] = Path(sys.prefix).glob("lib/python*/site-packages/sling_*/bin/sling-*")
    return found


def main() -> None:
    place = child.place()
    separator = "&" if "?" in place.database_url else "?"
    environment = {
        **os.environ,
        "SLING_HOME_DIR": place.scratch,
        "SLING_DISABLE_TELEMETRY": "TRUE",
        "WAREHOUSE": f"{place.database_url}{separator}sslmode=disable",
    }
    program = binary()

    def prepare(task: child.Task) -> Callable[[], None]:
        file = Path(place.scratch) / f"{task.phase}.csv"
        with file.open("w", newline="") as output:
            writer = csv.DictWriter(output, mapping.COLUMNS)
            writer.writeheader()
            writer.writerows(mapping.with_json_text(list(chain.from_iterable(mapping.pages(task.pages)))))
        stream = ["--src-stream", f"file://{file}", "--tgt-conn", "WAREHOUSE", "--tgt-object", f"{place.schema}.subscription"]
        incremental = ["--mode", "incremental", "--primary-key", "id", "--update-key", "updated_idx"]

        def work() -> None:
            subprocess.run([program, "run", *stream, *incremental], check=True, env=environment, stdout=sys.stderr)

        return work

    child.compete(prepare)


if __name__ == "__main__":
    main()
