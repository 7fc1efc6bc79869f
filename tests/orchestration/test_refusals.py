"""What a defs.yaml must not say: each refusal with its sentence, its file and its line."""

import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from sequin_pipeline.declare.yaml_models import ProviderModel
from sequin_pipeline.errors import CatalogError, ConfigurationError
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.orchestration.component import CollectionSync
from tests.orchestration.files import HEAD, write

REFUSED = {
    "reserved column": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        data: {path: x, type: text}\n",
        7,
        "column 'data' would take the name of one that every table has (the provider's object, whole): choose another name, "
        "for example 'stripe_data'",
    ),
    "system column": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        xmin: {path: x, type: text}\n",
        7,
        "column 'xmin' has a name that Postgres reserves: choose another one",
    ),
    "name of a column": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        a-b: {path: x, type: text}\n",
        7,
        "column 'a-b' cannot be used: expected letters, digits and _, a letter or _ first, at most 63",
    ),
    "path": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        x:\n          type: text\n          path: a..b\n",
        9,
        "column 'x': path 'a..b' is not understood at character 2: write names and indexes only, as in items.data[0].price.id or "
        "['key with.dots'].id",
    ),
    "format of a type without one": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        x:\n          path: x\n          type: text\n"
        "          format: iso\n",
        10,
        "column 'x' of type text has 'format', which only a timestamptz can have",
    ),
    "nulls of a type without elements": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        x:\n          path: x\n          type: jsonb\n"
        "          nulls: reject\n",
        10,
        "column 'x' of type jsonb has 'nulls', which only a text[] can have",
    ),
    "zone of a type without one": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        x:\n          path: x\n          type: date\n"
        "          assume_zone: UTC\n",
        10,
        "column 'x' of type date has 'assume_zone', which only a timestamptz can have",
    ),
    "unknown type": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        x: {path: x, type: txt}\n",
        7,
        "attributes.collections.a.columns.x.type: Input should be 'text', 'boolean', 'integer', 'bigint', 'numeric', "
        "'double precision', 'date', 'timestamptz', 'uuid', 'text[]' or 'jsonb': did you mean 'text'?",
    ),
    "unknown key": (
        "  provider: stripe\n  collections:\n    a:\n      colums: {}\n",
        6,
        "attributes.collections.a.colums: there is no such key here: did you mean 'columns'?",
    ),
    "unknown key of a column": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        x: {path: x, type: text, requird: true}\n",
        7,
        "attributes.collections.a.columns.x.requird: there is no such key here: did you mean 'required'?",
    ),
    "unknown key of a table": (
        "  provider: stripe\n  collections:\n    a:\n      table: {name: a.b, manged: false}\n",
        6,
        "attributes.collections.a.table.manged: there is no such key here: did you mean 'managed'?",
    ),
    "unknown key of a sync": (
        "  provider: stripe\n  source: stripe\n  syncs: [{name: a, acount: b}]\n  collections: {customer: }\n",
        5,
        "attributes.syncs.0.acount: there is no such key here: did you mean 'account'?",
    ),
    "unknown key of the provider": (
        "  provider: stripe\n  scheduel: '@daily'\n  collections: {a: }\n",
        4,
        "attributes.scheduel: there is no such key here: did you mean 'schedule'?",
    ),
    "key that is like none": (
        "  provider: stripe\n  windows: {zone: UTC}\n  collections: {a: }\n",
        4,
        "attributes.windows.zone: there is no such key here: there may be every, start",
    ),
    "another tool's word for a type": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        x: {path: x, type: timestamp}\n",
        7,
        "attributes.collections.a.columns.x.type: Input should be 'text', 'boolean', 'integer', 'bigint', 'numeric', "
        "'double precision', 'date', 'timestamptz', 'uuid', 'text[]' or 'jsonb': did you mean 'timestamptz'?",
    ),
    "another tool's word for many values": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        x: {path: x, type: array}\n",
        7,
        "attributes.collections.a.columns.x.type: Input should be 'text', 'boolean', 'integer', 'bigint', 'numeric', "
        "'double precision', 'date', 'timestamptz', 'uuid', 'text[]' or 'jsonb': did you mean 'text[]'?",
    ),
    "another word for removing": (
        "  provider: stripe\n  collections:\n    a:\n      on_delete: delete\n",
        6,
        "attributes.collections.a.on_delete: Input should be 'mark' or 'remove': did you mean 'remove'?",
    ),
    "unknown source": (
        "  provider: stripe\n  source: strip\n  collections: {a: }\n",
        4,
        "there is no source 'strip': did you mean 'stripe'? A class of your own is named as in package.module:Class",
    ),
    "class of objects that Stripe does not list": (
        "  provider: stripe\n  source: stripe\n  collections:\n    customer: {}\n    custommer: {}\n",
        7,
        "source 'stripe' cannot list 'custommer': did you mean 'customer'?",
    ),
    "a key where its variable should be named": (
        "  provider: stripe\n  source: stripe\n  syncs:\n    - name: main\n      key: sk_test_123\n  collections: {customer: }\n",
        6,
        "the key of sync 'main' is not the name of an environment variable: name the variable that holds it, "
        "as in key: STRIPE_API_KEY, and keep the key out of this file",
    ),
    "one name for two accounts": (
        "  provider: stripe\n  source: stripe\n  syncs: [{name: a}, {name: a, key: OTHER}]\n  collections: {customer: }\n",
        5,
        "sync 'a' is declared more than once: give each account a name of its own",
    ),
    "accounts of a source without": (
        "  provider: stripe\n  syncs:\n    - name: main\n  collections: {a: }\n",
        4,
        "source 'sequin' takes no 'syncs', since its records come from one place: remove it",
    ),
    "no provider": ("  collections: {a: }\n", 2, "attributes.provider: Field required"),
    "no collections": ("  provider: stripe\n", 2, "attributes.collections: Field required"),
    "number for a text": ("  provider: 7\n  collections: {a: }\n", 3, "attributes.provider: Input should be a valid string"),
    "text for a boolean": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n        x: {path: x, type: text, required: 'yes'}\n",
        7,
        "attributes.collections.a.columns.x.required: Input should be a valid boolean",
    ),
    "name of a provider": (
        "  provider: stripe:live\n  collections: {a: }\n",
        3,
        "provider 'stripe:live' cannot be used: expected letters, digits, - and _, a letter or digit first, at most 63",
    ),
    "name of a collection": (
        "  provider: stripe\n  collections:\n    a/b:\n",
        5,
        "collection 'a/b' cannot be used: expected letters, digits, ., - and _, a letter, digit or _ first, at most 200",
    ),
    "cron": (
        "  provider: stripe\n  schedule: 61 * * * *\n  collections: {a: }\n",
        4,
        "schedule '61 * * * *' is not a cron schedule: write minute, hour, day, month and weekday, as in '*/15 * * * *'",
    ),
    "windows off a boundary": (
        "  provider: stripe\n  windows:\n    every: week\n    start: 2024-01-02\n  collections: {a: }\n",
        6,
        "windows by week cannot start at 2024-01-02T00:00:00Z, which is not the start of one (UTC, weeks start on Monday): "
        "write 2024-01-01T00:00Z",
    ),
    "windows that are too many": (
        "  provider: stripe\n  windows: {every: hour, start: 2004-01-02}\n  collections: {a: }\n",
        4,
        "windows by hour since 2004-01-02T00:00Z are more than 100,000, the most that Dagster handles well: take wider windows or "
        "a later start (the first window holds everything older)",
    ),
    "windows in the future": (
        "  provider: stripe\n  windows: {every: day, start: 9024-01-02}\n  collections: {a: }\n",
        4,
        "windows start at 9024-01-02T00:00Z, which has not come yet: name a time that has passed",
    ),
    "start that is no time": (
        "  provider: stripe\n  windows: {start: 2024-13-01}\n  collections: {a: }\n",
        4,
        "start '2024-13-01' is not a time: month must be in 1..12",
    ),
    "start in another form": (
        "  provider: stripe\n  windows: {start: January}\n  collections: {a: }\n",
        4,
        "start 'January' cannot be used: expected a day or a time in UTC, as in 2024-01-01 or 2024-01-01T06:00Z",
    ),
    "time of a history": (
        "  provider: stripe\n  collections:\n    a:\n      history: 4 weeks\n",
        6,
        "history '4 weeks' cannot be used: expected a number of days from 1d to 9999d, as in 30d",
    ),
    "width of windows": (
        "  provider: stripe\n  windows: {every: year}\n  collections: {a: }\n",
        4,
        "attributes.windows.every: Input should be 'hour', 'day', 'week' or 'month'",
    ),
    "key twice": (
        "  provider: stripe\n  collections:\n    a:\n    b:\n    a:\n",
        7,
        "duplicate key 'a' (first on line 5): remove one of the two",
    ),
    "schema of Postgres by default": (
        "  provider: pg_x\n  collections:\n    a:\n",
        5,
        "collection 'a' would land in schema 'pg_x', which Postgres reserves: name another table with "
        "`table: {name: schema.table}`",
    ),
    "schema of Postgres by name": (
        "  provider: stripe\n  collections:\n    a:\n      table:\n        name: information_schema.a\n",
        6,
        "collection 'a' would land in schema 'information_schema', which Postgres reserves: name another table with "
        "`table: {name: schema.table}`",
    ),
    "schema of the ledger": (
        "  provider: stripe\n  collections:\n    a:\n      table: {name: sequin_pipeline.a}\n",
        5,
        "collection 'stripe/a' would land in schema 'sequin_pipeline', which holds the ledger: name another table with "
        "`table: {name: schema.table}`",
    ),
    "public without asking": (
        "  provider: public\n  collections:\n    a:\n",
        5,
        "collection 'a' of provider 'public' would land in schema 'public', which nobody asked for: name its table with "
        "`table: {name: schema.table}`",
    ),
    "name of a table": (
        "  provider: stripe\n  collections:\n    a:\n      table:\n        name: subscription\n",
        7,
        "table 'subscription' cannot be used: expected schema.table, each part letters, digits and _, at most 63",
    ),
    "columns of a managed table": (
        "  provider: stripe\n  collections:\n    a:\n      table:\n        name: public.a\n        columns: {id: key}\n",
        8,
        "collection 'a' gives 'columns' for a table that the pipeline manages, whose columns and key are its own: remove 'columns', or "
        "say `managed: false` for a table that belongs to an application",
    ),
    "name of an unmanaged table": (
        "  provider: stripe\n  collections:\n    a:\n      table: {name: a, managed: false, columns: {id: id}}\n",
        6,
        "table 'a' cannot be used: expected schema.table, each part at most 63 characters without dots and quotes",
    ),
    "mapping of what is no column": (
        "  provider: stripe\n  collections:\n    a:\n      table:\n        name: public.a\n        managed: false\n"
        "        columns:\n          id: id\n          content_hash: hash\n",
        11,
        "collection 'a' maps 'content_hash', which is neither declared nor a field of the record: name one of id, upstream_id, "
        "internal_id, sync_id, updated_idx, deleted, inserted_at, updated_at, record_inserted_at, upstream_created_at, "
        "upstream_updated_at, data, or declare it below `columns` of the collection",
    ),
    "two columns in one": (
        "  provider: stripe\n  collections:\n    a:\n      columns: {plan: {path: plan, type: text}}\n      table:\n"
        "        name: public.a\n        managed: false\n        columns:\n          id: id\n          deleted: plan\n",
        12,
        "collection 'a' maps both 'plan' and 'deleted' to column 'plan': give each its own",
    ),
    "unmanaged table without its key": (
        "  provider: stripe\n  collections:\n    a:\n      table:\n        name: public.a\n        managed: false\n"
        "        columns: {deleted: deleted}\n",
        9,
        "collection 'a' finds rows by 'id', which is mapped to no column of table 'public.a': add `id: <its column>`, or name with "
        "`key` the columns that identify a row there",
    ),
    "key that syncs share": (
        "  provider: stripe\n  collections:\n    a:\n      table:\n        name: public.a\n        managed: false\n"
        "        columns: {upstream_id: id, deleted: deleted}\n        key: [upstream_id]\n",
        10,
        "collection 'a' has the key (upstream_id), which records of several syncs can share: use [id], or [sync_id, upstream_id]",
    ),
    "marks without a column for them": (
        "  provider: stripe\n  collections:\n    a:\n      table:\n        name: public.a\n        managed: false\n"
        "        columns: {id: id}\n",
        6,
        "collection 'a' marks deleted records, and no column of table 'public.a' takes `deleted`: map `deleted` to a boolean column, or "
        "say `on_delete: remove`",
    ),
    "index on what is no column": (
        "  provider: stripe\n  collections:\n    a:\n      indexes: [[sync_id, upstreamid]]\n",
        6,
        "collection 'a' asks for an index on 'upstreamid', which is not a column of its table: name some of id, upstream_id, internal_id, "
        "sync_id, updated_idx, deleted, inserted_at, updated_at, record_inserted_at, upstream_created_at, upstream_updated_at, data, "
        "content_hash",
    ),
    "index twice": (
        "  provider: stripe\n  collections:\n    a:\n      indexes: [[sync_id], [sync_id]]\n",
        6,
        "collection 'a' asks for the index ['sync_id']: name each column once, and each index once",
    ),
    "index on json": (
        "  provider: stripe\n  data: json\n  collections:\n    a:\n      indexes: [[sync_id, data]]\n",
        7,
        "collection 'a' asks for an index on 'data', which is declared as json, a type without an order: create one on an expression "
        "yourself, as in `create index on schema.table using gin ((data::jsonb))`",
    ),
    "type of data": (
        "  provider: stripe\n  collections:\n    a:\n      data: text\n",
        6,
        "attributes.collections.a.data: Input should be 'jsonb' or 'json'",
    ),
    "type of data in an unmanaged table": (
        "  provider: stripe\n  collections:\n    a:\n      data: json\n      on_delete: remove\n"
        "      table: {name: public.a, managed: false, columns: {id: id}}\n",
        6,
        "collection 'a' names a type for `data`, but its table belongs to an application, whose own column decides: remove 'data'",
    ),
    "index on an unmanaged table": (
        "  provider: stripe\n  collections:\n    a:\n      indexes: [[sync_id]]\n      on_delete: remove\n"
        "      table: {name: public.a, managed: false, columns: {id: id}}\n",
        6,
        "collection 'a' asks for indexes on a table that belongs to an application: create them with its migrations",
    ),
    "row security of an unmanaged table": (
        "  provider: stripe\n  collections:\n    a:\n      row_security: tenant\n      on_delete: remove\n"
        "      table: {name: public.a, managed: false, columns: {id: id}}\n",
        6,
        "collection 'a' asks for row security on a table that belongs to an application: create its policies with its migrations",
    ),
    "row security by what is no tenant": (
        "  provider: stripe\n  collections:\n    a:\n      row_security: sync\n",
        6,
        "attributes.collections.a.row_security: Input should be 'tenant'",
    ),
    "owner": (
        "  provider: stripe\n  owners: [bob]\n  collections: {a: }\n",
        4,
        "owner 'bob' cannot be used: expected an e-mail address, or team: and a name",
    ),
    "owner of a collection": (
        "  provider: stripe\n  collections:\n    a:\n      owners: ['team:']\n",
        6,
        "owner 'team:' cannot be used: expected an e-mail address, or team: and a name",
    ),
    "tag": (
        "  provider: stripe\n  tags:\n    a b: c\n  collections: {a: }\n",
        5,
        "tag 'a b' cannot be used: expected letters, digits, ., - and _, at most 63, and at most one / with the same before it",
    ),
    "value of a tag": (
        "  provider: stripe\n  tags:\n    a: b c\n  collections: {a: }\n",
        5,
        "tag 'a' with value 'b c' cannot be used: expected letters, digits, ., - and _, at most 63",
    ),
    "share of rejects": (
        "  provider: stripe\n  collections:\n    a:\n      rejects: {limit_share: 1.5}\n",
        6,
        "attributes.collections.a.rejects.limit_share: Input should be less than or equal to 1",
    ),
    "steps that are one": (
        "  provider: stripe\n  collections:\n    a.b:\n    a_b:\n",
        6,
        "collections 'stripe/a.b' ({file}:5) and 'stripe/a_b' would both be the step 'stripe__a_b' of a run: Dagster cannot tell "
        "names apart that differ only in `.`, `-` and `_`",
    ),
    "columns beyond those that a table can have": (
        "  provider: stripe\n  collections:\n    a:\n      columns:\n"
        + "".join(f"        c{number}: {{path: c{number}, type: text}}\n" for number in range(1_588)),
        6,
        "'a' declares 1,588 columns, and beside the record's own 13 a table of Postgres has room for 1,587: leave out what is not asked "
        "for by name; the whole object stands in `data`",
    ),
    "tables that are one": (
        "  provider: stripe\n  collections:\n    a:\n    b:\n      table: {name: stripe.a}\n",
        6,
        "collections 'stripe/a' ({file}:5) and 'stripe/b' would both land in table 'stripe.a': name another table for one of them "
        "with `table: {name: schema.table}`",
    ),
}


@pytest.mark.parametrize(("attributes", "line", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_with_a_sentence_and_the_line(tmp_path: Path, attributes: str, line: int, sentence: str) -> None:
    environment = write(tmp_path, stripe=attributes)
    file = str(tmp_path / "stripe" / "defs.yaml")

    with pytest.raises(CatalogError) as refusal:
        load_collections(environment)

    assert str(refusal.value) == f"{file}:{line}: {sentence.replace('{file}', file)}"


@pytest.mark.parametrize(
    "text", ["type: sequin_pipeline.component.CollectionSync\n", HEAD], ids=["no attributes", "empty attributes"]
)
def test_a_file_without_attributes_says_what_it_needs(tmp_path: Path, text: str) -> None:
    environment = write(tmp_path, stripe="")
    (tmp_path / "stripe" / "defs.yaml").write_text(text, encoding="utf-8")

    with pytest.raises(CatalogError) as refusal:
        load_collections(environment)

    assert (
        str(refusal.value)
        == f"{tmp_path}/stripe/defs.yaml:1: `attributes` are missing: name at least `provider` and `collections`"
    )


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        pytest.param(
            HEAD.encode() + b"  collections: [a\n",
            4,
            "this is not YAML: while parsing a flow sequence did not find expected ',' or ']'",
            id="not closed",
        ),
        pytest.param(HEAD.encode() + b"\tprovider: stripe\n", 3, "this is not YAML: while scanning for the next token", id="tab"),
        pytest.param(HEAD.encode() + b"  provider: \xe9\n", 3, "the file is not UTF-8: save it as UTF-8", id="latin-1"),
        pytest.param(b"", 1, "the file declares nothing: begin it with `type:` and `attributes:`, or remove it", id="empty"),
        pytest.param(b"- a\n", 1, "a mapping with `type` and `attributes` was expected here", id="list"),
        pytest.param(
            b"attributes: {}\ntype: sequin_pipeline.component.Sync\n",
            2,
            "the definitions cannot be read: Module `sequin_pipeline.component` has no attribute `Sync`. "
            "Did you mean 'sequin_pipeline.component.CollectionSync'?",
            id="unknown class",
        ),
        pytest.param(
            b"type: sequin.Sync\nattributes: {}\n",
            1,
            "the definitions cannot be read: Module `sequin` not found.",
            id="unknown module",
        ),
    ],
)
def test_text_that_no_declaration_can_be_is_one_sentence_with_its_place(
    tmp_path: Path, content: bytes, line: int, message: str
) -> None:
    environment = write(tmp_path, github="  provider: github\n  collections: {a: }\n", stripe="")
    file = tmp_path / "stripe" / "defs.yaml"
    file.write_bytes(content)

    with pytest.raises(CatalogError) as refused:
        load_collections(environment)

    assert str(refused.value).startswith(f"{file}:{line}: {message}")
    assert "\n" not in str(refused.value)


def test_two_files_cannot_declare_one_provider(tmp_path: Path) -> None:
    environment = write(
        tmp_path, one="  provider: stripe\n  collections: {a: }\n", two="  provider: stripe\n  collections: {b: }\n"
    )

    with pytest.raises(CatalogError) as refusal:
        load_collections(environment)

    assert str(refusal.value) == (
        f"{tmp_path}/two/defs.yaml:3: provider 'stripe' has been declared in {tmp_path}/one/defs.yaml:3 already: keep one declaration"
    )


def test_two_providers_cannot_share_a_group(tmp_path: Path) -> None:
    environment = write(tmp_path, one="  provider: a-b\n  collections: {a: }\n", two="  provider: a_b\n  collections: {a: }\n")

    with pytest.raises(CatalogError) as refusal:
        load_collections(environment)

    assert str(refusal.value) == (
        f"{tmp_path}/two/defs.yaml:3: providers 'a-b' ({tmp_path}/one/defs.yaml:3) and 'a_b' would share the group 'a_b': Dagster "
        "cannot tell groups apart that differ only in `-` and `_`"
    )


def test_two_files_cannot_fill_one_table(tmp_path: Path) -> None:
    environment = write(
        tmp_path,
        one="  provider: stripe\n  collections:\n    a:\n",
        two="  provider: linear\n  collections:\n    b:\n      table: {name: stripe.a}\n",
    )

    with pytest.raises(CatalogError) as refusal:
        load_collections(environment)

    assert str(refusal.value) == (
        f"{tmp_path}/two/defs.yaml:5: collections 'stripe/a' ({tmp_path}/one/defs.yaml:5) and 'linear/b' would both land in table "
        "'stripe.a': name another table for one of them with `table: {name: schema.table}`"
    )


def test_a_folder_without_definitions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load_collections({"SEQUIN_COLLECTIONS": str(tmp_path)})

    assert str(refusal.value) == (
        f"SEQUIN_COLLECTIONS names {str(tmp_path)!r}, where no <provider>/defs.yaml stands: name the folder above the providers' "
        "folders, or unset the variable to use the definitions of the package"
    )


@pytest.mark.parametrize(
    ("attributes", "messages"),
    [
        pytest.param({"provider": "stripe", "collections": {"a": None, "b": {}}}, [], id="the least that is needed"),
        pytest.param({"collections": {"a": None}}, ["'provider' is a required property"], id="no provider"),
        pytest.param({"provider": "stripe"}, ["'collections' is a required property"], id="no collections"),
        pytest.param({"provider": "a:b", "collections": {"a": None}}, ["does not match"], id="name of a provider"),
        pytest.param({"provider": "stripe", "collections": {"a/b": None}}, ["does not match"], id="name of a collection"),
        pytest.param({"provider": "stripe", "schedule": "hourly", "collections": {"a": None}}, ["does not match"], id="cron"),
        pytest.param(
            {"provider": "stripe", "colections": {}, "collections": {"a": None}},
            ["Additional properties are not allowed ('colections' was unexpected)"],
            id="unknown key",
        ),
        pytest.param(
            {"provider": "stripe", "windows": {"every": "year"}, "collections": {"a": None}}, ["is not one of"], id="width"
        ),
        pytest.param(
            {"provider": "stripe", "windows": {"start": "January"}, "collections": {"a": None}}, ["does not match"], id="start"
        ),
        pytest.param(
            {"provider": "stripe", "collections": {"a": {"columns": {"x": {"path": "x", "type": "text[]", "nulls": "drop"}}}}},
            ["is not valid under any of the given schemas"],
            id="nulls",
        ),
        pytest.param({"provider": "stripe", "owners": ["bob"], "collections": {"a": None}}, ["does not match"], id="owner"),
        pytest.param({"provider": "stripe", "tags": {"a b": "c"}, "collections": {"a": None}}, ["does not match"], id="tag"),
        pytest.param(
            {"provider": "stripe", "tags": {"a": "b c"}, "collections": {"a": None}}, ["does not match"], id="tag value"
        ),
    ],
)
def test_the_schema_refuses_what_a_schema_can(attributes: dict[str, object], messages: list[str]) -> None:
    schema = ProviderModel.model_json_schema()

    errors = [error.message for error in Draft202012Validator(schema).iter_errors(attributes)]

    assert len(errors) == len(messages)
    assert all(expected in error for expected, error in zip(messages, errors, strict=True))


@pytest.mark.parametrize(
    ("path", "is_accepted"),
    [
        ("customer", True),
        ("items.data[0].price.id", True),
        ("['a.b'].c", True),
        ("$.record.x", True),
        ("$['it\\'s'][12]", True),
        ("record.sync.metadata", True),
        ("größe", True),
        ("", False),
        ("$", False),
        ("a..b", False),
        (".a", False),
        ("a[01]", False),
        ("a[-1]", False),
        ("a.*", False),
        ("a[?b]", False),
        ("$a", False),
        ("a.[0]", False),
    ],
)
def test_the_schema_and_the_catalog_take_the_same_paths(tmp_path: Path, path: str, *, is_accepted: bool) -> None:
    columns = {"x": {"path": path, "type": "text"}}
    attributes = {"provider": "stripe", "collections": {"a": {"columns": columns}}}
    quoted = path.replace("'", "''")
    environment = write(
        tmp_path,
        stripe=f"  provider: stripe\n  collections:\n    a:\n      columns:\n        x: {{path: '{quoted}', type: text}}\n",
    )

    schema_accepts = Draft202012Validator(ProviderModel.model_json_schema()).is_valid(attributes)
    try:
        load_collections(environment)
        catalog_accepts = True
    except CatalogError:
        catalog_accepts = False

    assert (schema_accepts, catalog_accepts) == (is_accepted, is_accepted)


def test_the_component_shows_the_schema_of_its_attributes() -> None:
    assert CollectionSync.get_model_cls() is ProviderModel


@pytest.mark.processes
def test_the_error_is_shown_by_a_code_location_that_loads(tmp_path: Path) -> None:
    environment = write(
        tmp_path, stripe="  provider: stripe\n  collections:\n    a:\n      columns:\n        id: {path: x, type: text}\n"
    )

    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "from sequin_pipeline.definitions import defs; defs()"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"CatalogError: {tmp_path}/stripe/defs.yaml:7: column 'id' would take the name" in loaded.stderr
