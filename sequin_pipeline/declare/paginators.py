"""This module checks the settings of a paginator and of an authentication: each type takes its own, by the names of dlt's REST client."""

from collections.abc import Mapping

from sequin_pipeline.declare.node import Node
from sequin_pipeline.declare.rest_models import AuthModel, PaginatorModel
from sequin_pipeline.declare.settings import secret, setting
from sequin_pipeline.declare.suggestions import suggestion
from sequin_pipeline.reads import Setting

_PAGED = ("total_path", "has_more_path", "stop_after_empty_page")

PAGINATORS: Mapping[str, tuple[str, ...]] = {
    "header_link": ("links_next_key",),
    "json_link": ("next_url_path",),
    "cursor": ("cursor_path", "cursor_param", "cursor_body_path", "has_more_path", "stop_after_empty_page"),
    "offset": (
        "limit",
        "offset",
        "offset_param",
        "offset_body_path",
        "limit_param",
        "limit_body_path",
        "maximum_offset",
        *_PAGED,
    ),
    "page_number": ("base_page", "page", "page_param", "page_body_path", "maximum_page", *_PAGED),
    "header_cursor": ("cursor_key", "cursor_param"),
    "single_page": (),
}
"""These are the settings of each type, as dlt 1.31 has them."""

AUTHENTICATIONS: Mapping[str, tuple[str, ...]] = {
    "bearer": ("token",),
    "api_key": ("api_key", "name", "location"),
    "http_basic": ("username", "password"),
    "oauth2_client_credentials": ("access_token_url", "client_id", "client_secret"),
}

OPTIONAL = frozenset({"name", "location"})
SECRETS = frozenset({"token", "api_key", "password", "client_secret"})


def paginator(model: PaginatorModel, node: Node) -> Mapping[str, object]:
    """Returns `type` and the settings that the file gives; null stands for a value that the API does not tell."""
    found = {key: getattr(model, key) for key in model.model_fields_set if key != "type"}
    _check_settings("paginator", model.type, found, PAGINATORS[model.type], node)
    if model.type == "offset" and model.limit is None:
        raise node.refused("paginator 'offset' has no 'limit', by which the next page is counted: add one, as in limit: 100")
    for one, other in (
        ("cursor_param", "cursor_body_path"),
        ("page_param", "page_body_path"),
        ("offset_param", "offset_body_path"),
    ):
        if found.get(one) is not None and found.get(other) is not None:
            raise (node / other).refused(
                f"paginator {model.type!r} has both {one!r} and {other!r}: name one place for the next page"
            )
    return {"type": model.type, **{key: found[key] for key in PAGINATORS[model.type] if key in found}}


def auth(model: AuthModel, node: Node) -> Mapping[str, Setting]:
    """Returns `type` and the settings of it; secrets are variables, always."""
    if model.type is None:
        raise node.refused(f"auth has no 'type': name one of {', '.join(AUTHENTICATIONS)}")
    found = {key: value for key in model.model_fields_set if key != "type" and (value := getattr(model, key)) is not None}
    _check_settings("auth", model.type, found, AUTHENTICATIONS[model.type], node)
    settings: dict[str, Setting] = {"type": model.type}
    for key in AUTHENTICATIONS[model.type]:
        if key in found:
            read = secret if key in SECRETS else setting
            settings[key] = read(found[key], f"auth {model.type!r}: {key!r}", node / key)
        elif key not in OPTIONAL:
            value = f"{{env: {key.upper()}}}" if key in SECRETS else "…"
            raise node.refused(f"auth {model.type!r} has no {key!r}: add it, as in {key}: {value}")
    return settings


def _check_settings(what: str, kind: str, found: Mapping[str, object], known: tuple[str, ...], node: Node) -> None:
    for key in found:
        if key not in known:
            said = suggestion(key, known, are="it takes") if known else "it takes none"
            raise (node / key).refused(f"{what} {kind!r} takes no {key!r}: {said}")
