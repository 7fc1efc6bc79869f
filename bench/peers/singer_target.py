"""meltanolabs-target-postgres, fed with Singer messages through its pipe, as a tap would feed it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench import child
from bench.peers import mapping

TYPES = {
    **{name: {"type": ["string", "null"]} for name in mapping.COLUMNS},
    **{name: {"type": ["string", "null"], "format": "date-time"} for name in mapping.TIME_COLUMNS},
    **{name: {"type": ["object", "null"]} for name in mapping.JSON_COLUMNS},
    "updated_idx": {"type": ["integer", "null"]},
    "quantity": {"type": ["integer", "null"]},
    "deleted": {"type": ["boolean", "null"]},
}


def main() -> None:
    place = child.place()
    configuration = Path(place.scratch) / "target.json"
    configuration.write_text(
        json.dumps(
            {
                "sqlalchemy_url": place.database_url.replace("postgresql://", "postgresql+psycopg://"),
                "default_target_schema": place.schema,
                "add_record_metadata": False,
                "activate_version": False,
            }
        )
    )
    program = Path(sys.prefix) / "bin" / "target-postgres"
    schema = {"type": "SCHEMA", "stream": "subscription", "schema": {"properties": TYPES}, "key_properties": ["id"]}

    def prepare(task: child.Task) -> Callable[[], None]:
        def work() -> None:
            with subprocess.Popen(
                [program, "--config", configuration],
                stdin=subprocess.PIPE,
                stdout=sys.stderr,
                text=True,
                env={**os.environ, "SINGER_SDK_LOG_LEVEL": "ERROR"},
            ) as target:
                assert target.stdin is not None
                target.stdin.write(json.dumps(schema) + "\n")
                for rows in mapping.pages(task.pages):
                    for row in rows:
                        message = {"type": "RECORD", "stream": "subscription", "record": row}
                        target.stdin.write(json.dumps(message, default=lambda moment: moment.isoformat()) + "\n")
                target.stdin.close()
                if target.wait() != 0:
                    raise SystemExit(f"target-postgres ended with status {target.returncode}")

        return work

    child.compete(prepare)


if __name__ == "__main__":
    main()
