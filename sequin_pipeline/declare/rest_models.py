"""These models say what may stand below `api` and `read` of a defs.yaml: how an API is read, for `source: rest`.

As in yaml_models.py, what breaks a pattern or belongs to another type gets a sentence and a line from parse_rest.py.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sequin_pipeline.declare.strict_model import SETTING_SCHEMA, AddressValue, SettingValue, StrictModel
from sequin_pipeline.reads import SinceFormat

PaginatorType = Literal["header_link", "json_link", "cursor", "offset", "page_number", "header_cursor", "single_page"]
AuthType = Literal["bearer", "api_key", "http_basic", "oauth2_client_credentials"]

DURATION_PATTERN = r"^(0|[1-9]\d{0,5})[smhd]$"

EachValues = Annotated[
    object, WithJsonSchema({"anyOf": [SETTING_SCHEMA, {"type": "array", "items": SETTING_SCHEMA, "minItems": 1}]})
]
"""This is one value, `{env: NAME}` for the values that a variable holds (with commas between), or a list of such."""


class PaginatorModel(StrictModel):
    """A paginator says where an answer names the next page; its settings have the names that dlt's REST client gives them."""

    type: PaginatorType
    links_next_key: str | None = Field(default=None, description="header_link: the rel of the next page's link; next")
    next_url_path: str | None = Field(default=None, description="json_link: where the next page's address stands; next")
    cursor_path: str | None = Field(default=None, description="cursor: where the next page's cursor stands; cursors.next")
    cursor_param: str | None = Field(default=None, description="cursor, header_cursor: the parameter that takes it; cursor")
    cursor_body_path: str | None = Field(default=None, description="cursor: where it goes in the body of a POST")
    cursor_key: str | None = Field(default=None, description="header_cursor: the header that holds the cursor; next")
    has_more_path: str | None = Field(
        default=None, description="cursor, offset, page_number: where the answer says that there is more"
    )
    stop_after_empty_page: bool | None = Field(default=None, description="cursor, offset, page_number: end at an empty page")
    limit: int | None = Field(default=None, ge=1, description="offset: how many objects a page has; required there")
    offset: int | None = Field(default=None, ge=0, description="offset: where the first page begins; 0")
    offset_param: str | None = Field(default=None, description="offset: the parameter of the offset; offset")
    offset_body_path: str | None = Field(default=None, description="offset: where it goes in the body of a POST")
    limit_param: str | None = Field(default=None, description="offset: the parameter of the limit; limit")
    limit_body_path: str | None = Field(default=None, description="offset: where it goes in the body of a POST")
    maximum_offset: int | None = Field(default=None, ge=1, description="offset: the last one that is asked for")
    base_page: int | None = Field(default=None, ge=0, description="page_number: the number of the first page; 0")
    page: int | None = Field(default=None, ge=0, description="page_number: the page to begin with")
    page_param: str | None = Field(default=None, description="page_number: the parameter of the page; page")
    page_body_path: str | None = Field(default=None, description="page_number: where it goes in the body of a POST")
    maximum_page: int | None = Field(default=None, ge=1, description="page_number: the last one that is asked for")
    total_path: str | None = Field(
        default=None, description="offset, page_number: where the total stands; null where an API tells none"
    )


def _paginator(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class _OrItsType:
    """This adds to the schema of a model that its type alone may stand in its place; before pydantic 2.10 no argument does so."""

    types: tuple[str, ...]

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": list(self.types)}, handler(core_schema)]}


Paginator = Annotated[PaginatorModel, BeforeValidator(_paginator), _OrItsType(get_args(PaginatorType))]
"""A paginator that needs no settings may be written as its type alone."""


class AuthModel(StrictModel):
    """This says how requests are authenticated, by the names of dlt's REST client; a secret is `{env: NAME}`, never the secret itself."""

    type: AuthType | None = None
    token: SettingValue = Field(default=None, description="bearer: {env: NAME}")
    name: str | None = Field(default=None, description="api_key: the header or parameter that takes the key; Authorization")
    api_key: SettingValue = Field(default=None, description="api_key: {env: NAME}")
    location: Literal["header", "query", "param"] | None = Field(default=None, description="api_key: where it goes; header")
    username: SettingValue = Field(default=None, description="http_basic")
    password: SettingValue = Field(default=None, description="http_basic: {env: NAME}")
    access_token_url: SettingValue = Field(
        default=None, description="oauth2_client_credentials: where a token is asked for; without a scheme, a path below base_url"
    )
    client_id: SettingValue = Field(default=None, description="oauth2_client_credentials")
    client_secret: SettingValue = Field(default=None, description="oauth2_client_credentials: {env: NAME}")


class RateLimitModel(StrictModel):
    """This names the headers by which an API tells how many requests are left, so that a run waits before it is refused."""

    remaining: str | None = Field(default=None, description="the header with the number of requests left")
    reset: str | None = Field(default=None, description="the header that tells when there are more")
    reset_is: Literal["epoch_seconds", "seconds", "milliseconds"] | None = Field(
        default=None, description="what it holds: a time, or how long from now; epoch_seconds"
    )
    usage: str | None = Field(default=None, description="the header of the form api-usage=18/5000")
    usage_limit: float | None = Field(default=None, gt=0, le=1, description="the share of it at which a run ends; 0.95")
    requests_per_second: float | None = Field(default=None, gt=0, description="never more than so many")


class SinceModel(StrictModel):
    """This says what `{since}` and `{until}` stand for."""

    format: SinceFormat | None = Field(default=None, description="iso unless said otherwise")
    lookback: str | None = Field(
        default=None,
        description="how long before the newest version known is asked again, for an API whose answers are late",
        examples=["10m"],
        json_schema_extra={"pattern": DURATION_PATTERN},
    )
    first: str | None = Field(default=None, description="what a whole read asks for, in UTC; 1970-01-01 unless said otherwise")


class FieldsModel(StrictModel):
    """This says where the API lists an object's fields, which `{fields}` stands for, with commas between."""

    path: str = Field(description="below base_url")
    select: str | None = Field(default=None, description="where the array of fields stands in the answer")
    name: str = Field(description="where the name stands in each of them")


class ChangesModel(StrictModel):
    """This is a request for a list.

    Names in braces are filled: `{since}`, `{until}`, `{fields}`, `{columns.x}` and those of `each`.
    """

    path: str | None = Field(default=None, description="below base_url", examples=["repos/{repository}/issues"])
    method: Literal["GET", "POST"] | None = None
    params: dict[str, object] | None = Field(
        default=None, description="of the query; null leaves out one of the preset's", examples=[{"since": "{since}"}]
    )
    body: dict[str, object] | None = Field(default=None, alias="json", description="the body of a POST")
    select: str | None = Field(default=None, description="where the array of objects stands in the answer", examples=["results"])
    paginator: Paginator | None = Field(default=None, description="in place of the API's")
    since: SinceModel | None = None
    ascending: bool | None = Field(default=None, description="the list comes with the oldest version first; this is checked")
    descending: bool | None = Field(default=None, description="the list comes with the newest version first")
    restart_after: int | None = Field(default=None, ge=1, description="begin anew at the newest version after so many objects")
    detail: str | None = Field(
        default=None,
        description="the path of one object, asked for once for each that has changed",
        examples=["repos/{repository}/pulls/{number}"],
    )


class ReadModel(ChangesModel):
    """This says how a collection is read: the list of an API, or the stream of a connector, and what objects are told apart by."""

    stream: str | None = Field(
        default=None,
        min_length=1,
        description="of a connector: its name of the stream; the collection's own unless said otherwise",
    )
    key: list[str] | None = Field(default=None, min_length=1, description="paths of the values that tell objects apart")
    version: str | None = Field(default=None, description="path of the time, or the integer, that grows with each change")
    created: str | None = Field(default=None, description="path of the time of creation")
    deleted: str | None = Field(default=None, description="path of a flag that says that the object is gone")
    each: dict[str, EachValues] | None = Field(
        default=None,
        description="by name in braces, the values that it takes; the list is read for each",
        examples=[{"repository": ["octo/alpha", "octo/beta"]}],
    )
    fields: FieldsModel | None = None
    changes: ChangesModel | None = Field(
        default=None, description="how what has changed is asked for, where it is not by the list"
    )


class ApiModel(StrictModel):
    """This says from which API a provider's collections are read.

    It is a preset, or an address; what stands here goes before the preset's.
    """

    preset: str | None = Field(default=None, examples=["github"])
    base_url: AddressValue = Field(
        default=None,
        description="its address, {env: NAME}, or {env: NAME, default: address}",
        examples=["https://api.example.com"],
    )
    auth: AuthModel | None = None
    headers: dict[str, SettingValue] | None = Field(default=None, description="of each request")
    paginator: Paginator | None = Field(default=None, description="single_page unless said otherwise")
    rate_limit: RateLimitModel | None = None
    each: dict[str, EachValues] | None = Field(
        default=None, description="values for names in braces, for every collection that has them"
    )


class PresetModel(ApiModel):
    """A preset is an API, and how each of its collections is read."""

    collections: dict[str, ReadModel]
