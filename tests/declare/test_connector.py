"""What `connector` and its `read` of a defs.yaml become, and what they must not say: each refusal with its sentence, file and line."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from sequin_pipeline.catalog import SourceDeclaration
from sequin_pipeline.declare.yaml_models import ProviderModel
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.reads import Connector, StreamRead, Variable
from sequin_pipeline.sources.registry import missing_variables
from tests.orchestration.files import write


def source_of(folder: Path, attributes: str) -> SourceDeclaration:
    collections = load_collections(write(folder, shop=attributes))
    return next(iter(collections.values())).source


@pytest.mark.parametrize("source", ["airbyte", "singer"])
def test_connector_is_read_as_the_file_says(tmp_path: Path, source: str) -> None:
    declared = source_of(
        tmp_path,
        f"""\
  provider: shop
  source: {source}
  relist_hours: 6
  connector:
    command: [/srv/connectors/shop/bin/source-shop, --verbose]
    config:
      shop: example
      page: 100
      is_test: true
      credentials: {{auth_type: api_key, api_key: {{env: SHOP_KEY}}}}
      regions: [eu, {{env: SHOP_REGION}}]
    options: [--manifest-path, /srv/shop.yaml]
  collections:
    order: {{read: {{stream: orders_v2, key: [shop.id, number], version: meta.updated, deleted: is_gone}}}}
    item:
    customer: {{read: {{key: [id]}}}}
""",
    )

    assert (declared.kind, declared.relist_hours) == (source, 6)
    assert declared.connector == Connector(
        command=("/srv/connectors/shop/bin/source-shop", "--verbose"),
        config={
            "shop": "example",
            "page": 100,
            "is_test": True,
            "credentials": {"auth_type": "api_key", "api_key": Variable("SHOP_KEY")},
            "regions": ["eu", Variable("SHOP_REGION")],
        },
        options=("--manifest-path", "/srv/shop.yaml"),
        reads={
            "order": StreamRead("orders_v2", (("shop", "id"), ("number",)), ("meta", "updated"), ("is_gone",)),
            "item": StreamRead("item"),
            "customer": StreamRead("customer", (("id",),)),
        },
    )
    assert missing_variables(declared, {"SHOP_REGION": "us"}) == ("SHOP_KEY",)


HEAD = "  provider: shop\n  source: airbyte\n"
COMMAND = "  connector: {command: [source-shop]}\n"
ORDERS = "  collections: {order: {}}\n"


@pytest.mark.parametrize(
    ("attributes", "line", "said"),
    [
        (HEAD + ORDERS, 4, "source 'airbyte' needs a 'connector': say what starts it, as in connector: {command: ["),
        (HEAD + "  connector: {config: {}}\n" + ORDERS, 5, "attributes.connector.command: Field required"),
        (HEAD + "  connector: {command: []}\n" + ORDERS, 5, "attributes.connector.command: List should have at least 1 item"),
        (HEAD + '  connector: {command: ["", x]}\n' + ORDERS, 5, "the command has an empty part: remove it"),
        (HEAD + "  connector: {comand: [x]}\n" + ORDERS, 5, "there is no such key here: did you mean 'command'?"),
        (
            HEAD + "  connector:\n    command: [x]\n    config:\n      login:\n        password: hunter2\n" + ORDERS,
            9,
            "config 'password' looks like a secret, and stands in this file: name the variable that holds it, as in password: {env: PASS",
        ),
        (
            HEAD + "  connector:\n    command: [x]\n    config:\n      tokens:\n        - token: abc\n" + ORDERS,
            9,
            "config 'token' looks like a secret, and stands in this file",
        ),
        (
            HEAD + "  connector:\n    command: [x]\n    config:\n      key: {env: ghp_abcdef}\n" + ORDERS,
            8,
            "'key' of 'config': what stands behind `env` is not the name of a variable",
        ),
        (HEAD + "  api: {base_url: https://x.test}\n" + COMMAND + ORDERS, 5, "source 'airbyte' takes no 'api'"),
        (
            HEAD + COMMAND + "  collections:\n    order:\n      read:\n        stream: orders\n        path: v1/orders\n",
            10,
            "source 'airbyte' takes no 'path' below 'read', which is for source 'rest': a connector takes stream, key, version, deleted",
        ),
        (HEAD + COMMAND + "  collections:\n    order:\n      read: {json: {a: 1}}\n", 8, "takes no 'json' below 'read'"),
        (HEAD + COMMAND + '  collections:\n    order:\n      read: {stream: ""}\n', 8, "String should have at least 1 character"),
        (HEAD + COMMAND + '  collections:\n    order:\n      read: {key: ["a[0]"]}\n', 8, "'key' of read of 'order' 'a[0]' has an index"),
        (
            "  provider: shop\n" + COMMAND + ORDERS,
            4,
            "source 'sequin' takes no 'connector', which is what sources 'airbyte' and 'singer' start: remove it",
        ),
        (
            "  provider: shop\n  source: rest\n  api: {base_url: https://x.test}\n"
            "  collections: {order: {read: {path: a, key: [id], stream: orders}}}\n",
            6,
            "source 'rest' takes no 'stream', which names what a connector reads 'order' from: remove it",
        ),
        (
            "  provider: shop\n  collections: {order: {read: {stream: orders}}}\n",
            4,
            "source 'sequin' takes no 'read'",
        ),
    ],
    ids=[
        "no connector",
        "no command",
        "an empty command",
        "an empty part of the command",
        "a key that is misspelled",
        "a secret in the file",
        "a secret in a list",
        "a secret in place of a variable's name",
        "an api beside it",
        "a path of source rest",
        "a body of source rest",
        "an empty stream",
        "a key with an index",
        "a connector of another source",
        "a stream of source rest",
        "a stream of the records API",
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_at_its_line(tmp_path: Path, attributes: str, line: int, said: str) -> None:
    with pytest.raises(CatalogError) as refused:
        load_collections(write(tmp_path, shop=attributes))

    assert said in str(refused.value)
    assert f"defs.yaml:{line}" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_schema_for_editors_takes_a_connector() -> None:
    validator = Draft202012Validator(ProviderModel.model_json_schema())
    good = {
        "provider": "shop",
        "source": "singer",
        "connector": {"command": ["tap-shop"], "config": {"token": {"env": "TOKEN"}}},
        "collections": {"order": {"read": {"stream": "orders", "key": ["id"]}}},
    }

    assert list(validator.iter_errors(good)) == []
    assert list(validator.iter_errors({**good, "connector": {"config": {}}})) != []
