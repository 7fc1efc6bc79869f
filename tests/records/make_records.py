"""Makes github.jsonl and final.json anew: `python tests/records/make_records.py`.

github.jsonl holds some 400 versions of some 40 objects in the order of delivery, one record a line, in every form that the records
API allows. final.json is what must stand in the end, worked out by `fold`, which shares nothing with the pipeline: for each id the
greatest `updated_idx`, among equal ones the last delivered; a bare tombstone keeps the object that stood before it; times are cut to
milliseconds. The files are committed; a change here is a change of what the pipeline is measured by.
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

FOLDER = Path(__file__).parent

Json = dict[str, Any]

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://api.sequin.io/v1/records")
SYNCS: tuple[Json, ...] = (
    {"id": "1d4f7b62-0c3e-4e5a-9b1d-6a2f80c7e901", "external_id": "workspace-17", "metadata": {"tier": "gold", "seats": 40}},
    {"id": "8a60c2e5-f7d9-4b34-8e72-35d1b9fa0c02", "external_id": "Mandant-Köln-№3", "metadata": {"tags": ["α", None]}},
    {"id": "f2b97d10-65ac-4c8f-a0e4-9c83d6172b03", "external_id": None, "metadata": {}},
)
OLD_FORM_SYNC_ID = "30c5e8f4-b1a7-4d92-86fb-e70d42a95c04"
ZONES = (UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=-7)), timezone(timedelta(hours=5, minutes=45)))
FIRST_UPDATED_IDX = 3_100_000_000
"""Beyond 32 bits, as in the API's documented samples."""
STARTED_AT = datetime(2025, 2, 3, 7, 30, tzinfo=UTC)
PEOPLE = ("mira-okafor", "jürgen-w", "li-na", "ravi-k", "build-bot")
TITLES = (
    "Totals drift by a day",
    "Ungültiges Datum im Export",
    "集計が一日ずれる",
    "Crash on empty CSV 💥",
    'Quotes "inside" a\ttitle',
    "Añadir índice",
)


def user(number: int) -> Json:
    login = PEOPLE[number % len(PEOPLE)]
    return {
        "login": login,
        "id": 51_000 + number % len(PEOPLE),
        "node_id": f"U_{number % len(PEOPLE):04}",
        "type": "Bot" if login.endswith("bot") else "User",
        "site_admin": False,
        "html_url": f"https://code.example/{login}",
    }


def issue(number: int, revision: int) -> Json:
    is_closed = revision % 3 == 2
    return {
        "id": 2_200_000_000 + number,
        "number": number,
        "title": TITLES[(number + revision) % len(TITLES)],
        "state": "closed" if is_closed else "open",
        "user": user(number),
        "assignee": user(number + revision) if revision % 2 else None,
        "assignees": [user(number + revision)] if revision % 2 else [],
        "labels": [
            {"id": 7 + place, "name": name, "color": "aa00cc"}
            for place, name in enumerate(("bug", "größe", "p1")[: revision % 4])
        ],
        "milestone": {"number": 2, "title": "Spring", "due_on": "2025-04-30T00:00:00Z"} if number % 2 else None,
        "comments": revision,
        "locked": False,
        "author_association": "MEMBER",
        "created_at": "2025-01-15T08:00:00Z",
        "updated_at": f"2025-02-{3 + revision:02}T09:10:11Z",
        "closed_at": f"2025-02-{3 + revision:02}T09:10:11Z" if is_closed else None,
        "body": None if revision == 0 else f"Revision {revision}: the sum of column 3 is off by {revision * 1.5}.",
        "html_url": f"https://code.example/ledger/tally/issues/{number}",
    }


def pull_request(number: int, revision: int) -> Json:
    return {
        "id": 1_950_000_000 + number,
        "number": 500 + number,
        "title": f"{TITLES[number % len(TITLES)]} — fix",
        "state": "open",
        "draft": revision == 0,
        "merged": False,
        "merged_at": None,
        "merged_by": None,
        "user": user(number),
        "head": {"ref": f"fix/{number}", "sha": f"{number * 7919 + revision:040x}"},
        "base": {"ref": "main", "sha": f"{number:040x}"},
        "labels": [],
        "requested_reviewers": [user(number + 1)],
        "commits": revision + 1,
        "additions": 10 * revision,
        "deletions": 3 * revision,
        "changed_files": 1 + revision // 2,
        "created_at": "2025-01-20T10:00:00Z",
        "updated_at": f"2025-02-{3 + revision:02}T10:00:00+00:00",
        "closed_at": None,
        "body": "Keeps the time zone.\n\nSee the other thread.",
        "html_url": f"https://code.example/ledger/tally/pull/{500 + number}",
    }


def repository(number: int, revision: int) -> Json:
    """A push event gives times as seconds since 1970; everything else gives text."""
    is_push = revision % 4 == 3
    return {
        "id": 730_000_000 + number,
        "name": f"tally-{number}",
        "full_name": f"ledger/tally-{number}",
        "private": number % 2 == 0,
        "owner": {**user(0), "type": "Organization"},
        "description": None if number % 3 else "Zählt, was andere vergessen – 数える",
        "fork": False,
        "language": "Python",
        "topics": ["ledger", "größe"][: revision % 3],
        "license": {"key": "mit", "spdx_id": "MIT"} if number % 2 else None,
        "stargazers_count": 10 * revision,
        "forks_count": revision,
        "open_issues_count": 3,
        "size": 1_024 + revision,
        "default_branch": "main",
        "created_at": 1_735_689_600 if is_push else "2025-01-01T00:00:00Z",
        "pushed_at": 1_738_600_000 + revision if is_push else f"2025-02-{3 + revision:02}T11:00:00Z",
        "updated_at": f"2025-02-{3 + revision:02}T11:00:00Z",
        "html_url": f"https://code.example/ledger/tally-{number}",
    }


def comment(number: int, revision: int) -> Json:
    return {
        "id": 2_600_000_000 + number,
        "user": user(number),
        "author_association": "NONE",
        "issue_url": f"https://api.code.example/ledger/tally/issues/{number}",
        "created_at": "2025-01-28T12:00:00Z",
        "updated_at": f"2025-02-{3 + revision:02}T12:00:00Z",
        "reactions": {"total_count": revision, "+1": revision, "-1": 0},
        "body": f"{TITLES[number % len(TITLES)]}? Edited {revision} times. \\u0041 is not an escape here, é is one letter.",
        "html_url": f"https://code.example/ledger/tally/issues/{number}#c{number}",
    }


MAKERS = {
    "github:issue": (issue, 14),
    "github:pull_request": (pull_request, 9),
    "github:repository": (repository, 7),
    "github:comment": (comment, 9),
}
"""How an object of the collection looks, and how many there are; a third of them stand in a second sync with the same upstream id."""


def delivered() -> Iterator[Json]:
    """Records in the order of delivery: versions of all objects mixed, with late copies and repetitions among them; at last one that is
    deleted before it was ever seen."""
    dice = Random(20250203)
    seats = [(collection_id, number) for collection_id, (_, count) in MAKERS.items() for number in range(1, count + 1)]
    keys = [(*seat, sync) for place, seat in enumerate(seats) for sync in sorted({place % 4, 0 if place % 3 == 0 else place % 4})]
    revisions = dict.fromkeys(keys, 0)
    is_gone = dict.fromkeys(keys, False)
    sent: list[Json] = []
    for position in range(400):
        if position > 60 and dice.random() < 0.06:
            yield dice.choice(sent)
            continue
        key = keys[position] if position < len(keys) else dice.choice(keys)
        is_gone[key] = position >= len(keys) and not is_gone[key] and dice.random() < 0.25
        record = version(dice, key, revisions[key], position=position, deleted=is_gone[key])
        revisions[key] += 1
        sent.append(record)
        yield record
    yield version(dice, ("github:comment", 99, 1), 0, position=400, deleted=True) | {"data": None}


def version(dice: Random, key: tuple[str, int, int], revision: int, *, position: int, deleted: bool) -> Json:
    collection_id, number, sync_place = key
    make, _ = MAKERS[collection_id]
    made = make(number, revision)
    created_at = STARTED_AT - timedelta(days=30, microseconds=number * 1_111)
    entered_at = STARTED_AT + timedelta(minutes=11 * position, microseconds=dice.randrange(1_000_000))
    record: Json = {
        "upstream_id": str(made["id"]),
        "updated_idx": FIRST_UPDATED_IDX + position * 3,
        "deleted": deleted,
        "upstream_created_at": None if number % 5 == 0 else written(dice, created_at),
        "upstream_updated_at": None if collection_id == "github:comment" else written(dice, entered_at - timedelta(seconds=40)),
    }
    if sync_place == len(SYNCS):
        record |= {"collection": collection_id, "sync_id": OLD_FORM_SYNC_ID, "created_at": written(dice, entered_at)}
    else:
        sync = SYNCS[sync_place]
        record |= {
            "id": record_id(sync["id"], key),
            "collection_id": collection_id,
            "provider": "github",
            "stream_id": "main",
            "sync": sync,
            "inserted_at": written(dice, entered_at),
        }
    content = dice.choice(("null", "absent", "empty", "object", "object")) if deleted else "object"
    contents: dict[str, dict[str, Any]] = {"null": {"data": None}, "absent": {}, "empty": {"data": {}}, "object": {"data": made}}
    return record | contents[content]


def record_id(sync_id: str, key: tuple[str, int, int]) -> str:
    """The stream's own id of a record: nothing that could be derived from the others."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{sync_id} {key[0]} {key[1]}"))


def written(dice: Random, moment: datetime) -> str:
    """The same moment in one of the forms that ISO 8601 allows."""
    text = moment.astimezone(dice.choice(ZONES)).isoformat(timespec="microseconds")
    return text.replace("+00:00", dice.choice(("Z", "+00:00")))


def fold(records: Iterable[Json]) -> list[Json]:
    """What must stand in the end, sorted by id."""
    rows: dict[str, Json] = {}
    for record in records:
        row = row_of(record)
        before = rows.get(row["id"])
        if before is not None and before["updated_idx"] > row["updated_idx"]:
            continue
        if row["data"] is None and before is not None:
            row["data"] = before["data"]
        rows[row["id"]] = row
    return [rows[each] for each in sorted(rows)]


def row_of(record: Json) -> Json:
    collection_id = record.get("collection_id") or record["collection"]
    sync = record.get("sync") or {"id": record["sync_id"], "external_id": None}
    derived = uuid.uuid5(NAMESPACE, f'["{sync["id"]}", "{collection_id}", "{record["upstream_id"]}"]')
    return {
        "id": record.get("id") or str(derived),
        "collection_id": collection_id,
        "upstream_id": record["upstream_id"],
        "internal_id": sync["external_id"],
        "sync_id": sync["id"],
        "updated_idx": record["updated_idx"],
        "deleted": record["deleted"],
        "upstream_created_at": to_milliseconds(record["upstream_created_at"]),
        "upstream_updated_at": to_milliseconds(record["upstream_updated_at"]),
        "record_inserted_at": to_milliseconds(record.get("inserted_at") or record["created_at"]),
        "data": record.get("data") or None,
    }


def to_milliseconds(text: str | None) -> str | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1_000:03}Z"


def lines(values: Iterable[Json]) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def final_text(rows: Iterable[Json]) -> str:
    """An array, one row a line."""
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rows) + "\n]\n"


def main() -> None:
    records = list(delivered())
    (FOLDER / "github.jsonl").write_text(lines(records), encoding="utf-8")
    (FOLDER / "final.json").write_text(final_text(fold(records)), encoding="utf-8")


if __name__ == "__main__":
    main()
