"""These models say what may stand below `attributes` of a defs.yaml; `dg check yaml` and editors use their JSON schema.

They say what a schema can say: types, patterns, enums, unknown keys. The patterns are for the schema only; what breaks one at load
time gets a sentence and a line from parse.py, which turns the models into collections.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from sequin_pipeline.catalog import (
    MAX_CONSUMERS,
    MAX_LANES,
    MAX_SHARDS,
    ColumnType,
    DataType,
    KeyColumn,
    OnDelete,
    RowSecurity,
    SourceKindName,
    TimeFormat,
    WindowWidth,
)
from sequin_pipeline.declare.connector_models import ConnectorModel
from sequin_pipeline.declare.rest_models import ApiModel, ReadModel
from sequin_pipeline.declare.strict_model import VARIABLE_PATTERN, StrictModel

PROVIDER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
"""A provider is a Dagster kind and, with `-` as `_`, a group: 63 characters of this alphabet."""
COLLECTION_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$"
"""A collection's name can be part of an asset key, and of the step's name once `.` and `-` have become `_`."""
COLUMN_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
TABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_$]{0,62}\.[A-Za-z_][A-Za-z0-9_$]{0,62}$"
UNMANAGED_TABLE_PATTERN = r"^[^.\"\x00-\x1f]{1,63}\.[^.\"\x00-\x1f]{1,63}$"
"""Names are quoted wherever they are used, so that an application's may hold spaces, dashes and upper case."""
UNMANAGED_COLUMN_PATTERN = r"^[^\x00-\x1f]{1,63}$"
OWNER_PATTERN = r"^(team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7})$"
"""Dagster has this rule for owners."""
TAG_PATTERN = r"^([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}$"
TAG_VALUE_PATTERN = r"^[A-Za-z0-9_.-]{0,63}$"
SOURCE_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z_][A-Za-z0-9_.]*)?$"
"""This is the name of an entry point, or a class as `package.module:Class`."""
SYNC_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"
HISTORY_PATTERN = r"^[1-9]\d{0,3}d$"
START_PATTERN = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:00)?(Z|\+00:00))?$"
CRON_PATTERN = r"^(@(hourly|daily|weekly|monthly|yearly|annually|midnight)|\S+( +\S+){4})$"

_NAME = r"[^\W\d][\w-]*"
_BRACKET = r"\[(0|[1-9]\d{0,8})\]|\['([^'\\]|\\['\\])*'\]"
PATH_PATTERN = rf"^({_NAME}|{_BRACKET}|\$(\.{_NAME}|{_BRACKET}))(\.{_NAME}|{_BRACKET})*$"

Owner = Annotated[str, Field(json_schema_extra={"pattern": OWNER_PATTERN})]


class ColumnModel(StrictModel):
    """A column of the table is taken from the record by `path` and cast to `type`."""

    path: str = Field(
        description="where the value stands in the provider's object; record.x is a field of the envelope around it",
        examples=["customer", "items.data[0].price.id", "['key.with.dots']", "record.sync.metadata"],
        json_schema_extra={"pattern": PATH_PATTERN},
    )
    type: ColumnType
    format: TimeFormat | None = Field(default=None, description="how a timestamptz is written; iso unless said otherwise")
    required: bool = Field(default=False, description="reject a record that carries an object without this value; never NOT NULL")
    empty_as_null: bool = Field(default=False, description="take an empty string as null rather than reject the record")
    assume_zone: Literal["UTC"] | None = Field(default=None, description="the zone of a timestamptz that names none")
    round: bool = Field(default=False, description="accept a timestamptz with more than six digits of a second")
    nulls: Literal["keep", "reject"] | None = Field(
        default=None, description="whether a text[] takes arrays that hold nulls; keep unless said otherwise"
    )
    description: str = Field(default="", description="becomes the comment of the column")


class TableModel(StrictModel):
    """The records land in this table, where it is not `<provider>.<collection>`."""

    name: str = Field(
        description="schema.table",
        examples=["billing.subscription", "public.Subscription"],
        json_schema_extra={"pattern": UNMANAGED_TABLE_PATTERN},
    )
    managed: bool = Field(default=True, description="the pipeline creates the table and adds columns to it")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="of a table that is not managed: by our columns, which of its columns takes each; a declared column that is not "
        "named here goes to the one of its own name",
        examples=[{"id": "id", "upstream_id": "upstreamId", "updated_idx": "updatedIdx"}],
        json_schema_extra={"additionalProperties": {"pattern": UNMANAGED_COLUMN_PATTERN}},
    )
    key: list[KeyColumn] = Field(
        default=["id"], min_length=1, description="of a table that is not managed: our columns that identify a row"
    )
    round: bool = Field(
        default=False, description="of a table that is not managed: round times to the digits of a second that its columns keep"
    )


class HistoryTableModel(StrictModel):
    """Every version of the collection's records that is delivered is kept in this table."""

    name: str | None = Field(
        default=None,
        description="schema.table; left out: `<table>_history` beside the table",
        examples=["billing.subscription_versions"],
        json_schema_extra={"anyOf": [{"pattern": TABLE_PATTERN}, {"type": "null"}]},
    )
    since: str | None = Field(
        default=None,
        description="a time in UTC: versions that had ended by then are not kept",
        examples=["2025-01-01"],
        json_schema_extra={"anyOf": [{"pattern": START_PATTERN}, {"type": "null"}]},
    )


class ChildColumnModel(ColumnModel):
    """A column of a child table is taken from an element of the list by `path` and cast to `type`."""

    path: str = Field(
        description="where the value stands in the element; $ is the element itself",
        examples=["amount", "price.product", "$"],
        json_schema_extra={"pattern": rf"^\$$|{PATH_PATTERN}"},
    )


class ChildTableModel(StrictModel):
    """The elements land in this table, where it is not the parent's with the child's name behind it."""

    name: str = Field(
        description="schema.table",
        examples=["billing.invoice_line", "public.InvoiceLine"],
        json_schema_extra={"pattern": UNMANAGED_TABLE_PATTERN},
    )
    managed: bool = Field(default=True, description="the pipeline creates the table and adds columns to it")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="of a table that is not managed: by our columns, which of its columns takes each; one that is declared, or in the key, "
        "and is not named here goes to the one of its own name",
        examples=[{"parent_id": "invoiceId", "id": "id", "position": "position"}],
        json_schema_extra={"additionalProperties": {"pattern": UNMANAGED_COLUMN_PATTERN}},
    )


class InnerChildModel(StrictModel):
    """A list becomes a table: a row for each of its elements, found by the parent's id and the key."""

    path: str = Field(
        description="where the list stands in the object, or in the element of the outer list",
        examples=["lines.data"],
        json_schema_extra={"pattern": PATH_PATTERN},
    )
    key: list[str] = Field(
        default_factory=list,
        description="what is unique among the elements of one list: declared columns, or members of the element, taken as text; "
        "left out: the position in the list",
        examples=[["id"]],
        json_schema_extra={"items": {"type": "string", "pattern": COLUMN_PATTERN}},
    )
    by_name: bool = Field(
        default=False, description="path leads to an object: its members are the rows, and their names the key, in column name"
    )
    columns: dict[str, ChildColumnModel] = Field(
        default_factory=dict, json_schema_extra={"propertyNames": {"pattern": COLUMN_PATTERN}}
    )
    table: ChildTableModel | None = None
    indexes: list[list[str]] = Field(
        default_factory=list,
        description="lists of columns of a managed table to have an index on; created concurrently, never dropped",
        examples=[[["product_id"]]],
    )
    foreign_key: bool = Field(
        default=False, description="have Postgres hold the rows to those of the parent, when a batch commits"
    )
    description: str = Field(default="", description="becomes the comment of the table")


class ChildModel(InnerChildModel):
    """A list becomes a table, and so may lists within its elements."""

    children: dict[str, InnerChildModel] = Field(
        default_factory=dict,
        description="lists within the elements, each a table of its own",
        json_schema_extra={"propertyNames": {"pattern": COLUMN_PATTERN}},
    )


class WindowsModel(StrictModel):
    """Windows cut the stream into time partitions, in UTC; weeks start on Monday."""

    every: WindowWidth = "month"
    start: str = Field(
        default="2024-01-01",
        description="start of the first window, which also holds everything older",
        json_schema_extra={"pattern": START_PATTERN},
    )


class RejectsModel(StrictModel):
    """A run that rejects more than both limits fails, after everything good has been committed."""

    limit_records: int = Field(default=100, ge=0)
    limit_share: float = Field(default=0.01, ge=0, le=1)


class CollectionModel(StrictModel):
    """A collection is one class of objects of the provider; all keys are optional, and `{}` gives the record's own columns and `data`."""

    description: str = Field(default="", description="becomes the comment of the table")
    columns: dict[str, ColumnModel] = Field(
        default_factory=dict, json_schema_extra={"propertyNames": {"pattern": COLUMN_PATTERN}}
    )
    children: dict[str, ChildModel] = Field(
        default_factory=dict,
        description="lists in the object that become tables, as <table>_<name>",
        examples=[{"line": {"path": "lines.data", "key": ["id"]}}],
        json_schema_extra={"propertyNames": {"pattern": COLUMN_PATTERN}},
    )
    table: TableModel | None = None
    indexes: list[list[str]] = Field(
        default_factory=list,
        description="lists of columns of a managed table to have an index on; created concurrently, never dropped",
        examples=[[["sync_id", "upstream_id"]]],
    )
    data: DataType | None = Field(
        default=None,
        description="the type of the column data: jsonb, or json, which keeps the object byte for byte; left out: the provider's",
    )
    on_delete: OnDelete = Field(default="mark", description="mark deleted records' rows, or remove them")
    row_security: RowSecurity | None = Field(
        default=None,
        description="tenant: readers of a managed table see the rows of the tenant that their setting app.tenant names",
    )
    lanes: int = Field(default=1, ge=1, le=MAX_LANES, description="connections that write the table beside each other")
    shards: int = Field(
        default=1,
        ge=1,
        le=MAX_SHARDS,
        description="streams into which a first load is divided, each of some of the syncs and read by a run of its own",
    )
    history: str | None = Field(
        default=None,
        description="keep, for so many days, what became of every record that was not unchanged",
        examples=["30d"],
        json_schema_extra={"pattern": HISTORY_PATTERN},
    )
    history_table: bool | HistoryTableModel = Field(
        default=False,
        description="keep every version of a record that is delivered as a row of `<table>_history`, with the times at which it held",
        examples=[True, {"since": "2025-01-01"}],
    )
    owners: list[Owner] = Field(default_factory=list, description="instead of the provider's: e-mail addresses or team:<name>")
    tags: dict[str, str] = Field(
        default_factory=dict,
        description="beside the provider's",
        json_schema_extra={"propertyNames": {"pattern": TAG_PATTERN}, "additionalProperties": {"pattern": TAG_VALUE_PATTERN}},
    )
    rejects: RejectsModel = RejectsModel()
    read: ReadModel | None = Field(default=None, description="for a source that is declared: how the collection is read")


class SyncModel(StrictModel):
    """A sync is one account of the provider, for sources that are read account by account."""

    name: str = Field(description="becomes sync_id of its records", json_schema_extra={"pattern": SYNC_PATTERN})
    key: str = Field(
        default="STRIPE_API_KEY",
        description="the environment variable that holds the account's key; never the key itself",
        json_schema_extra={"pattern": VARIABLE_PATTERN},
    )
    account: str | None = Field(
        default=None, description="a connected account that is read with this key", examples=["acct_1032D82eZvKYlo2C"]
    )
    external_id: str | None = Field(default=None, description="your own id of the tenant: becomes internal_id of its records")
    metadata: dict[str, str] = Field(default_factory=dict, description="stands in the envelope, at record.sync.metadata")


class QueueModel(StrictModel):
    """This says which consumer is drained, for sources that are queues, and when a run leaves the rest to the next."""

    consumer: str = Field(min_length=1, description="the consumer's id, or the name of the Sequin Stream sink")
    max_records: int | None = Field(default=None, ge=1, description="end a run after the delivery that reaches so many")
    max_seconds: int | None = Field(default=None, ge=1, description="end a run after the delivery that reaches this time")
    consumers: int = Field(
        default=1, ge=1, le=MAX_CONSUMERS, description="steps of a run that drain the consumer beside each other"
    )


class ProviderModel(StrictModel):
    """A provider's file says what is synced from it; `provider` and `collections` are required."""

    provider: str = Field(
        description="as the API spells it", examples=["stripe"], json_schema_extra={"pattern": PROVIDER_PATTERN}
    )
    collections: dict[str, CollectionModel | None] = Field(
        min_length=1,
        description="by the API's names, without the provider",
        examples=[{"subscription": {}}],
        json_schema_extra={"propertyNames": {"pattern": COLLECTION_PATTERN}},
    )
    source: str = Field(
        default="sequin",
        description="what the records are read from: the records API, the provider itself, or a class of your own",
        examples=["sequin", "my_package.sources:TrackerSource"],
        json_schema_extra={"anyOf": [{"enum": list(get_args(SourceKindName))}, {"pattern": SOURCE_PATTERN}]},
    )
    data: DataType = Field(
        default="jsonb", description="the type of the column data of its tables, where a collection does not name another one"
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="what a source of another package asks for; {env: NAME} stands for what a variable of the environment holds",
        examples=[{"url": "https://tracker.test", "token": {"env": "TRACKER_TOKEN"}}],
    )
    syncs: list[SyncModel] = Field(
        default_factory=list, description="accounts that a source reads itself; left out: one, named default, by the usual key"
    )
    relist_hours: int = Field(
        default=24,
        ge=0,
        description="how often a source that follows events lists everything again, to find what left no event; 0: at every run",
    )
    api: ApiModel | None = Field(
        default=None, description="for source: rest: the API; left out: the preset of the provider's name"
    )
    connector: ConnectorModel | None = Field(
        default=None, description="for source: airbyte and source: singer: what is started, and its configuration"
    )
    queue: QueueModel | None = Field(
        default=None, description="what is drained, for a source that is a queue; files with the same one are run together"
    )
    schedule: str | None = Field(
        default=None,
        description="cron (UTC) of the provider's live runs; the schedule starts stopped",
        examples=["*/15 * * * *"],
        json_schema_extra={"pattern": CRON_PATTERN},
    )
    skip_empty: bool = Field(
        default=True,
        description="a tick of the schedule asks the source first, and launches runs for what has something new; false: always",
    )
    windows: WindowsModel = WindowsModel()
    owners: list[Owner] = Field(default_factory=list, description="e-mail addresses or team:<name>")
    tags: dict[str, str] = Field(
        default_factory=dict,
        json_schema_extra={"propertyNames": {"pattern": TAG_PATTERN}, "additionalProperties": {"pattern": TAG_VALUE_PATTERN}},
    )
