"""What `api` and `read` of a defs.yaml become, and what they must not say: each refusal with its sentence, its file and its line."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from sequin_pipeline.declare.yaml_models import ProviderModel
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.reads import FieldList, RateLimit, Read, RestApi, Since, Variable
from tests.orchestration.files import write

HEAD = '  provider: shop\n  source: rest\n  api: {base_url: "https://api.example"}\n'


def api_of(folder: Path, attributes: str) -> RestApi:
    collections = load_collections(write(folder, shop=attributes))
    (api,) = {id(one.source.rest): one.source.rest for one in collections.values()}.values()
    assert api is not None
    return api


def reading(read: str, api: str = '{base_url: "https://api.example"}') -> str:
    """The attributes of a file with one collection; `read` begins on line 8."""
    return f"  provider: shop\n  source: rest\n  api: {api}\n  collections:\n    order:\n      read: {read}\n"


def test_an_api_without_a_preset_is_read_as_the_file_says(tmp_path: Path) -> None:
    api = api_of(
        tmp_path,
        """\
  provider: shop
  source: rest
  api:
    base_url: https://api.example/v2
    auth: {type: api_key, api_key: {env: SHOP_KEY}, name: X-Key}
    headers: {X-Shop: {env: SHOP}, Accept: application/json}
    paginator: {type: cursor, cursor_path: paging.next, cursor_param: after}
    rate_limit: {remaining: X-Left, reset: X-Reset, reset_is: seconds, requests_per_second: 4.5}
    each: {region: [eu, {env: REGION}]}
  collections:
    order:
      columns: {total: {path: total, type: numeric}}
      read:
        path: /{region}/orders
        params: {since: "{since}", until: "{until}", limit: 100, open: true, shop: {env: SHOP}}
        select: data.orders
        key: [shop, number]
        version: meta.updated
        created: meta.created
        deleted: is_gone
        since: {format: epoch_milliseconds, lookback: 10m, first: 2020-01-01}
        ascending: true
        restart_after: 9900
        detail: "{region}/orders/{number}?lines=all"
    item: {read: {path: items, key: [id], paginator: single_page}}
""",
    )

    assert api == RestApi(
        base_url="https://api.example/v2",
        reads={
            "order": Read(
                path="{region}/orders",
                key=(("shop",), ("number",)),
                select=("data", "orders"),
                version=("meta", "updated"),
                created=("meta", "created"),
                deleted=("is_gone",),
                params={"since": "{since}", "until": "{until}", "limit": 100, "open": True, "shop": Variable("SHOP")},
                each={"region": ("eu", Variable("REGION"))},
                since=Since("epoch_milliseconds", 600, "2020-01-01T00:00:00Z"),
                is_ascending=True,
                detail="{region}/orders/{number}?lines=all",
                restart_after=9900,
            ),
            "item": Read(path="items", key=(("id",),), paginator={"type": "single_page"}),
        },
        auth={"type": "api_key", "api_key": Variable("SHOP_KEY"), "name": "X-Key"},
        headers={"X-Shop": Variable("SHOP"), "Accept": "application/json"},
        paginator={"type": "cursor", "cursor_path": "paging.next", "cursor_param": "after"},
        rate_limit=RateLimit(remaining="X-Left", reset="X-Reset", reset_is="seconds", requests_per_second=4.5),
    )


def test_changes_of_a_search_take_from_the_list_what_they_do_not_say(tmp_path: Path) -> None:
    api = api_of(
        tmp_path,
        reading(
            """
        path: orders
        select: results
        key: [id]
        version: updated
        params: {fields: "{fields}"}
        fields: {path: orders/fields, select: all, name: name}
        changes:
          path: orders/search
          method: POST
          json: {from: "{since}", fields: ["{columns.properties}", id]}
          ascending: true
          detail: "orders/{id}?with={columns.properties}"
      columns:
        one: {path: properties.a, type: text}
        two: {path: "properties.b[0]", type: text}
        three: {path: properties.a, type: jsonb}
        four: {path: other.c, type: text}"""
        ),
    )

    read = api.reads["order"]
    assert read.fields == FieldList("orders/fields", ("name",), ("all",))
    assert read.changes == Read(
        path="orders/search",
        key=(),
        select=("results",),
        method="POST",
        json={"from": "{since}", "fields": ["a", "b", "id"]},
        is_ascending=True,
        detail="orders/{id}?with=a,b",
    )


@pytest.mark.parametrize(
    ("columns", "params"),
    [
        ("{}", {"limit": 1}),
        ("{a: {path: properties.email, type: text}}", {"limit": 1, "properties": "email"}),
        (
            "{a: {path: properties.email, type: text}, b: {path: \"properties['a b'].c\", type: text}, c: {path: id, type: text}}",
            {"limit": 1, "properties": "email,a b"},
        ),
    ],
    ids=["none", "one", "several"],
)
def test_an_api_is_asked_for_the_values_that_columns_name(tmp_path: Path, columns: str, params: Mapping[str, object]) -> None:
    read = '\n        path: orders\n        key: [id]\n        params: {limit: 1, properties: "{columns.properties}"}\n'

    api = api_of(tmp_path, reading(f"{read}      columns: {columns}"))

    assert api.reads["order"].params == params


GITHUB = """\
  provider: code
  source: rest
  api: {preset: github%s}
  collections:
    issue: %s
"""


def test_a_preset_alone_says_how_its_collections_are_read(tmp_path: Path) -> None:
    api = api_of(tmp_path, GITHUB % ("", "{}"))

    assert (api.base_url, api.preset) == (Variable("GITHUB_API_URL", "https://api.github.com"), "github")
    assert api.auth == {"type": "bearer", "token": Variable("GITHUB_TOKEN")}
    assert api.reads["issue"].each == {"repository": (Variable("GITHUB_REPOSITORIES"),)}


def test_a_provider_of_the_name_of_a_preset_needs_no_api(tmp_path: Path) -> None:
    api = api_of(tmp_path, "  provider: github\n  source: rest\n  collections: {issue: }\n")

    assert api.preset == "github"


def test_what_the_file_says_goes_before_the_preset_key_by_key(tmp_path: Path) -> None:
    api = api_of(
        tmp_path,
        GITHUB
        % (
            ', base_url: "http://127.0.0.1:4000", auth: {token: {env: OTHER}}, headers: {X-One: a}, each: {repository: [o/a]}',
            "{read: {params: {per_page: 10, sort: null}, version: changed_at}}",
        ),
    )

    read = api.reads["issue"]
    assert api.base_url == "http://127.0.0.1:4000"
    assert api.auth == {"type": "bearer", "token": Variable("OTHER")}
    assert api.headers["X-One"] == "a"
    assert "Accept" in api.headers
    assert read.each == {"repository": ("o/a",)}
    assert (read.version, read.path) == (("changed_at",), "repos/{repository}/issues")
    assert read.params == {"state": "all", "direction": "asc", "per_page": 10, "since": "{since}"}


def test_another_type_of_authentication_takes_the_place_of_the_presets(tmp_path: Path) -> None:
    api = api_of(tmp_path, GITHUB % (", auth: {type: http_basic, username: me, password: {env: PASSWORD}}", "{}"))

    assert api.auth == {"type": "http_basic", "username": "me", "password": Variable("PASSWORD")}


def test_values_of_a_collection_go_before_those_of_the_api(tmp_path: Path) -> None:
    api = api_of(tmp_path, GITHUB % (", each: {repository: [o/a]}", "{read: {each: {repository: [o/b, o/c]}}}"))

    assert api.reads["issue"].each == {"repository": ("o/b", "o/c")}


REFUSED = {
    # ---- where it may stand
    "api of another source": (
        "  provider: shop\n  api: {preset: github}\n  collections: {order: }\n",
        4,
        "source 'sequin' takes no 'api', which says how source 'rest' reads: remove it",
    ),
    "read of another source": (
        "  provider: shop\n  collections:\n    order:\n      read: {path: a, key: [id]}\n",
        6,
        "source 'sequin' takes no 'read', which says how source 'rest' reads 'order': remove it",
    ),
    "no api": (
        "  provider: shop\n  source: rest\n  collections: {order: }\n",
        4,
        "source 'rest' needs an 'api': name a preset, as in api: {preset: github}, or an address, as in "
        "api: {base_url: https://api.example.com}",
    ),
    "unknown preset": (
        "  provider: shop\n  source: rest\n  api: {preset: gitub}\n  collections: {order: }\n",
        5,
        "there is no preset 'gitub': did you mean 'github'?",
    ),
    "collection without read": (
        HEAD + "  collections:\n    order:\n",
        7,
        "nothing says how 'order' is read (there is no preset): say it below 'read', as in read: {path: v1/orders, key: [id]}",
    ),
    "unknown key of api": (
        "  provider: shop\n  source: rest\n  api: {base_ur: x}\n  collections: {order: }\n",
        5,
        "attributes.api.base_ur: there is no such key here: did you mean 'base_url'?",
    ),
    "unknown key of read": (
        reading("{path: a, key: [id], body: {a: 1}}"),
        8,
        "attributes.collections.order.read.body: there is no such key here: there may be path, method, params, json, select, paginator, "
        "since, ascending, descending, restart_after, detail, stream, key, version, created, deleted, each, fields, changes",
    ),
    # ---- address and headers
    "no address": (
        reading("{path: a, key: [id]}", "{headers: {A: b}}"),
        5,
        "api has no 'base_url': add one, as in base_url: https://api.example.com, or name a preset",
    ),
    "no url": (
        reading("{path: a, key: [id]}", "{base_url: api.example}"),
        5,
        "base_url is not a usable address: write http:// or https://, a host, and a path if the API is served below one, as in "
        "https://api.sequin.io",
    ),
    "credentials in the address": (
        reading("{path: a, key: [id]}", '{base_url: "https://me:geheim@api.example"}'),
        5,
        "base_url holds credentials for host 'api.example', which would end up in logs and ledgers: take them out of the address and "
        "set auth",
    ),
    "address that is a number": (
        reading("{path: a, key: [id]}", "{base_url: 7}"),
        5,
        "'base_url' is to be a text, or {env: NAME} for what a variable holds, and is something else: write a number or a boolean in "
        "quotes",
    ),
    "empty address": (
        reading("{path: a, key: [id]}", "{base_url: ''}"),
        5,
        "'base_url' is to be a text, or {env: NAME} for what a variable holds, and is an empty text",
    ),
    "variable with a dash": (
        reading("{path: a, key: [id]}", "{base_url: {env: SHOP-URL}}"),
        5,
        "'base_url': what stands behind `env` is not the name of a variable, as in {env: GITHUB_TOKEN}",
    ),
    "name of a header": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", headers: {"A B": c}}'),
        5,
        "header 'A B' cannot be used: expected the name of a header, as in X-RateLimit-Remaining",
    ),
    "value of a header": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", headers: {A: "b\\nc"}}'),
        5,
        "header 'A' cannot be sent: write printable ASCII on one line",
    ),
    # ---- secrets
    "literal token": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", auth: {type: bearer, token: geheim}}'),
        5,
        "auth 'bearer': 'token' is a secret, and stands in this file: name the variable that holds it, as in token: {env: TOKEN}",
    ),
    "literal password": (
        reading(
            "{path: a, key: [id]}", '{base_url: "https://a.example", auth: {type: http_basic, username: me, password: geheim}}'
        ),
        5,
        "auth 'http_basic': 'password' is a secret, and stands in this file: name the variable that holds it, as in "
        "password: {env: PASSWORD}",
    ),
    "literal client secret": (
        reading(
            "{path: a, key: [id]}",
            '{base_url: "https://a.example", auth: {type: oauth2_client_credentials, access_token_url: t, client_id: me, '
            "client_secret: geheim}}",
        ),
        5,
        "auth 'oauth2_client_credentials': 'client_secret' is a secret, and stands in this file: name the variable that holds it, as in "
        "client_secret: {env: CLIENT_SECRET}",
    ),
    "token as a variable's name": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", auth: {type: bearer, token: {env: ghp_geheim}}}'),
        5,
        "auth 'bearer': 'token': what stands behind `env` is not the name of a variable, as in {env: GITHUB_TOKEN}",
    ),
    "literal authorization": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", headers: {Authorization: Bearer geheim}}'),
        5,
        "header 'Authorization' looks like a secret, and stands in this file: name the variable that holds it, as in "
        "Authorization: {env: AUTHORIZATION}",
    ),
    "literal key in a parameter": (
        reading("{path: a, key: [id], params: {api_key: geheim}}"),
        8,
        "parameter 'api_key' looks like a secret, and stands in this file: name the variable that holds it, as in api_key: {env: API_KEY}",
    ),
    # ---- types
    "unknown type of authentication": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", auth: {type: beaer}}'),
        5,
        "attributes.api.auth.type: Input should be 'bearer', 'api_key', 'http_basic' or 'oauth2_client_credentials': did you mean "
        "'bearer'?",
    ),
    "no type of authentication": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", auth: {token: {env: T}}}'),
        5,
        "auth has no 'type': name one of bearer, api_key, http_basic, oauth2_client_credentials",
    ),
    "setting of another authentication": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", auth: {type: bearer, api_key: {env: T}}}'),
        5,
        "auth 'bearer' takes no 'api_key': it takes token",
    ),
    "authentication without its secret": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", auth: {type: api_key, name: X-Key}}'),
        5,
        "auth 'api_key' has no 'api_key': add it, as in api_key: {env: API_KEY}",
    ),
    "unknown paginator": (
        reading("{path: a, key: [id], paginator: header_links}"),
        8,
        "attributes.collections.order.read.paginator.type: Input should be 'header_link', 'json_link', 'cursor', 'offset', "
        "'page_number', 'header_cursor' or 'single_page': did you mean 'header_link'?",
    ),
    "setting of another paginator": (
        reading("{path: a, key: [id], paginator: {type: json_link, cursor_path: a}}"),
        8,
        "paginator 'json_link' takes no 'cursor_path': it takes next_url_path",
    ),
    "unknown setting of a paginator": (
        reading("{path: a, key: [id], paginator: {type: cursor, cursor_pth: a}}"),
        8,
        "attributes.collections.order.read.paginator.cursor_pth: there is no such key here: did you mean 'cursor_path'?",
    ),
    "offset without limit": (
        reading("{path: a, key: [id], paginator: offset}"),
        8,
        "paginator 'offset' has no 'limit', by which the next page is counted: add one, as in limit: 100",
    ),
    "two places for the cursor": (
        reading("{path: a, key: [id], paginator: {type: cursor, cursor_param: a, cursor_body_path: b}}"),
        8,
        "paginator 'cursor' has both 'cursor_param' and 'cursor_body_path': name one place for the next page",
    ),
    # ---- rate limit
    "remaining without reset": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", rate_limit: {remaining: X-Left}}'),
        5,
        "rate_limit needs both 'remaining' and 'reset', or neither: how many are left, and until when",
    ),
    "share of a usage": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", rate_limit: {usage: X, usage_limit: 1.5}}'),
        5,
        "attributes.api.rate_limit.usage_limit: Input should be less than or equal to 1",
    ),
    "requests a second": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", rate_limit: {requests_per_second: 0.0}}'),
        5,
        "attributes.api.rate_limit.requests_per_second: Input should be greater than 0",
    ),
    "usage limit without usage": (
        reading("{path: a, key: [id]}", '{base_url: "https://a.example", rate_limit: {usage_limit: 0.5}}'),
        5,
        "rate_limit bounds a usage, and names no header that tells it: add usage",
    ),
    # ---- read
    "no path": (
        reading("{key: [id]}"),
        8,
        "read of 'order' has no 'path', by which the list is asked for: add one, as in path: v1/orders",
    ),
    "no key": (
        reading("{path: a}"),
        8,
        "read of 'order' has no 'key', by which objects are told apart: add one, as in key: [id]",
    ),
    "another origin": (
        reading('{path: "https://b.example/a", key: [id]}'),
        8,
        "'path' of read of 'order' leads away from base_url: write a path below it, as in v1/orders",
    ),
    "query in a path": (
        reading('{path: "a?b=c", key: [id]}'),
        8,
        "'path' of read of 'order' has a query: put its parameters below 'params'",
    ),
    "index in a path": (
        reading('{path: a, key: ["ids[0]"]}'),
        8,
        "'key' of read of 'order' 'ids[0]' has an index: write keys only, as in paging.next",
    ),
    "path that is none": (
        reading("{path: a, key: [id], version: a..b}"),
        8,
        "'version' of read of 'order': path 'a..b' is not understood at character 2: write names and indexes only, as in "
        "items.data[0].price.id or ['key with.dots'].id",
    ),
    "body of a GET": (
        reading("{path: a, key: [id], json: {a: 1}}"),
        8,
        "read of 'order' has a 'json', which only a POST sends: add method: POST",
    ),
    "placeholder": (
        reading('{path: "a/{rgion}", key: [id], each: {region: [eu]}}'),
        8,
        "{rgion} in 'path' of read of 'order' stands for nothing: did you mean 'region'? Give it values below 'each', or, if the braces "
        "are the API's own, write a space behind the first",
    ),
    "mapping as a parameter": (
        reading("{path: a, key: [id], params: {filter: {open: true}}}"),
        8,
        "parameter 'filter' of read of 'order' is a mapping, which no query holds: write a text, a number, a boolean, a list of these, "
        "or {env: NAME}",
    ),
    "placeholder in the path of fields": (
        reading('{path: "{kind}", key: [id], each: {kind: [a]}, params: {q: "{fields}"}, fields: {path: "x/{knd}", name: name}}'),
        8,
        "{knd} in 'path' of the fields of read of 'order' stands for nothing: did you mean 'kind'?",
    ),
    "placeholder of fields": (
        reading('{path: a, key: [id], params: {q: "{fields}"}}'),
        8,
        "{fields} in 'params' of read of 'order' stands for nothing: there may be since, until Give it values below 'each', or, if the "
        "braces are the API's own, write a space behind the first",
    ),
    "values that stand nowhere": (
        reading("{path: a, key: [id], each: {region: [eu]}}"),
        8,
        "read of 'order' gives values to 'region', which stands in braces nowhere: the list would be read several times; remove it",
    ),
    "values for a name of no collection": (
        "  provider: shop\n  source: rest\n  api: {preset: github, each: {repositry: [o/a]}}\n  collections: {issue: }\n",
        5,
        "'each' gives values to 'repositry', which stands in braces in no collection of this file: did you mean 'repository'?",
    ),
    "name that cannot stand in braces": (
        '  provider: shop\n  source: rest\n  api: {base_url: "https://a.example", each: {a-b: [c]}}\n'
        "  collections: {order: {read: {path: a, key: [id]}}}\n",
        5,
        "'a-b' cannot stand in braces: expected letters, digits and _, a letter or _ first",
    ),
    "values of a name that is taken": (
        reading('{path: "{until}", key: [id], each: {until: [eu]}}'),
        8,
        "read of 'order' gives values to 'until', which stands for something else: take another name",
    ),
    "values twice": (
        reading('{path: "{a}", key: [id], each: {a: [eu, eu]}}'),
        8,
        "'a' of 'each' has a value twice: name each once",
    ),
    "no values": (reading('{path: "{a}", key: [id], each: {a: []}}'), 8, "'a' of 'each' has no value: name at least one"),
    "since without version": (
        reading('{path: a, key: [id], params: {since: "{since}"}}'),
        8,
        "read of 'order' asks for what has changed since a time, and names no 'version': add one, as in version: updated_at",
    ),
    "format of a time that is not asked for": (
        reading("{path: a, key: [id], version: v, since: {format: epoch_seconds}}"),
        8,
        "read of 'order' says how a time is written, and {since} stands in none of path, params and json: add it, or remove 'since'",
    ),
    "format of a time": (
        reading('{path: a, key: [id], version: v, params: {s: "{since}"}, since: {format: unix}}'),
        8,
        "attributes.collections.order.read.since.format: Input should be 'iso', 'epoch_seconds' or 'epoch_milliseconds': did you mean "
        "'epoch_seconds'?",
    ),
    "lookback": (
        reading('{path: a, key: [id], version: v, params: {s: "{since}"}, since: {lookback: 10 minutes}}'),
        8,
        "'lookback' of read of 'order' '10 minutes' cannot be used: expected a number of seconds, minutes, hours or days, as in 30s, 10m, "
        "2h or 1d",
    ),
    "first": (
        reading('{path: a, key: [id], version: v, params: {s: "{since}"}, since: {first: January}}'),
        8,
        "'first' of read of 'order' 'January' is not a time: write a day or a time in UTC, as in 2024-01-01",
    ),
    "both orders": (
        reading("{path: a, key: [id], version: v, ascending: true, descending: true}"),
        8,
        "read of 'order' is both ascending and descending: remove one of the two",
    ),
    "order without version": (
        reading("{path: a, key: [id], ascending: true}"),
        8,
        "read of 'order' is 'ascending' by a version that it does not name: add one, as in version: updated_at",
    ),
    "restart of a list without order": (
        reading('{path: a, key: [id], version: v, params: {s: "{since}"}, restart_after: 100}'),
        8,
        "read of 'order' begins anew at the newest version, which takes a list that is ascending and is asked for by {since}",
    ),
    "restart after nothing": (
        reading("{path: a, key: [id], restart_after: 0}"),
        8,
        "attributes.collections.order.read.restart_after: Input should be greater than or equal to 1",
    ),
    "changes that are the list": (
        reading("{path: a, key: [id], version: v, changes: {path: b}}"),
        8,
        "changes of read of 'order' do not ask by {since}: they would be the whole list; add it, or remove them",
    ),
}


@pytest.mark.parametrize(("attributes", "line", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_with_a_sentence_and_the_line(tmp_path: Path, attributes: str, line: int, sentence: str) -> None:
    environment = write(tmp_path, shop=attributes)

    with pytest.raises(CatalogError) as refusal:
        load_collections(environment)

    assert str(refusal.value) == f"{tmp_path}/shop/defs.yaml:{line}: {sentence}"
    assert "geheim" not in str(refusal.value)


@pytest.mark.parametrize(
    ("api", "read"),
    [
        ({"preset": "github"}, None),
        ({"base_url": {"env": "URL"}, "paginator": "header_link"}, {"path": "a", "key": ["id"]}),
        ({"base_url": "https://a.example"}, {"path": "a", "key": ["id"], "paginator": {"type": "cursor", "cursor_path": "a"}}),
        (
            {"base_url": "https://a.example", "each": {"a": ["b", {"env": "C"}]}},
            {"path": "{a}", "key": ["id"], "json": {"x": [1]}},
        ),
    ],
    ids=["preset", "variable", "paginator", "each"],
)
def test_the_schema_that_editors_use_takes_what_loading_takes(api: object, read: object) -> None:
    schema = ProviderModel.model_json_schema()
    attributes = {"provider": "shop", "source": "rest", "api": api, "collections": {"order": {"read": read}}}

    assert [error.message for error in Draft202012Validator(schema).iter_errors(attributes)] == []


@pytest.mark.parametrize(
    "api",
    [
        {"base_url": 7},
        {"auth": {"type": "beaer"}},
        {"paginator": "header_links"},
        {"each": {"a": []}},
        {"preset": "a", "token": "b"},
    ],
    ids=["number", "authentication", "paginator", "no values", "unknown key"],
)
def test_the_schema_that_editors_use_refuses_what_loading_refuses(api: object) -> None:
    attributes = {"provider": "shop", "source": "rest", "api": api, "collections": {"order": None}}

    assert not Draft202012Validator(ProviderModel.model_json_schema()).is_valid(attributes)
