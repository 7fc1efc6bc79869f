"""This module turns `api` and `read` of a defs.yaml, upon what the preset says, into a RestApi, or into a CatalogError with file and line.

What the file says goes before the preset: key by key in `params`, `each`, `headers`, `since` and the like, as a whole elsewhere.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from sequin_pipeline.catalog import parse_path
from sequin_pipeline.declare.node import Node
from sequin_pipeline.declare.paginators import auth, paginator
from sequin_pipeline.declare.parse_read import Place, parse_read
from sequin_pipeline.declare.placeholders import ColumnNames
from sequin_pipeline.declare.preset_files import presets
from sequin_pipeline.declare.rest_models import ApiModel, PresetModel, RateLimitModel, ReadModel
from sequin_pipeline.declare.settings import header_name, refuse_literal_secret, setting, values
from sequin_pipeline.declare.strict_model import StrictModel
from sequin_pipeline.declare.suggestions import suggestion
from sequin_pipeline.declare.yaml_models import CollectionModel, ProviderModel
from sequin_pipeline.errors import CatalogError, ConfigurationError
from sequin_pipeline.reads import RateLimit, Read, RestApi, Setting, Variable
from sequin_pipeline.sources.http.endpoint import Endpoint

Model = TypeVar("Model", bound=StrictModel)

NAME_IN_BRACES = r"[A-Za-z_][A-Za-z0-9_]*"

MERGED = frozenset({"params", "each", "headers", "since", "rate_limit", "auth", "changes", "fields"})
"""A file's words about these are laid over the preset's; everything else takes the preset's place."""


def parse_api(provider: ProviderModel, node: Node) -> RestApi | None:
    """Returns the API of a file whose `source` is read by declaration; None for any other, which can have neither `api` nor `read`.

    The `read` of a connector is another matter: see parse_connector.py.
    """
    if provider.source == "rest":
        return parse_rest(provider, node)
    if provider.source in ("airbyte", "singer"):
        return None
    if provider.api is not None:
        raise (node / "api").refused(f"source {provider.source!r} takes no 'api', which says how source 'rest' reads: remove it")
    for name, model in provider.collections.items():
        if model is not None and model.read is not None:
            raise (node / "collections" / name / "read").refused(
                f"source {provider.source!r} takes no 'read', which says how source 'rest' reads {name!r}: remove it"
            )
    return None


def parse_rest(provider: ProviderModel, node: Node) -> RestApi:
    """Returns the API of a file whose `source` is `rest`, and how each of its collections is read."""
    place = node / "api"
    preset = _preset(provider, node)
    api = _merged(ApiModel, preset, provider.api)
    reads = {name: _read(name, preset, model or CollectionModel(), api, node) for name, model in provider.collections.items()}
    _check_each_is_used(provider, reads, place / "each")
    return RestApi(
        base_url=_base_url(api, place),
        reads=reads,
        auth=None if api.auth is None else auth(api.auth, place / "auth"),
        headers=_headers(api.headers or {}, place / "headers"),
        paginator={"type": "single_page"} if api.paginator is None else paginator(api.paginator, place / "paginator"),
        rate_limit=_rate_limit(api.rate_limit or RateLimitModel(), place / "rate_limit"),
        preset=None if preset is None else _preset_name(provider),
        said=_said(provider),
    )


def _said(provider: ProviderModel) -> Mapping[str, Mapping[str, object]]:
    reads = {name: model.read for name, model in provider.collections.items() if model is not None and model.read is not None}
    api = {} if provider.api is None else provider.api.model_dump(exclude_unset=True, by_alias=True)
    return {"api": api, "read": {name: read.model_dump(exclude_unset=True, by_alias=True) for name, read in reads.items()}}


def _preset_name(provider: ProviderModel) -> str | None:
    """Returns the preset that the file names; where it names no API at all, the one of the provider's name."""
    if provider.api is not None:
        return provider.api.preset
    return provider.provider if provider.provider in presets() else None


def _preset(provider: ProviderModel, node: Node) -> PresetModel | None:
    name = _preset_name(provider)
    if name is None:
        if provider.api is None:
            raise (node / "source").refused(
                "source 'rest' needs an 'api': name a preset, as in api: {preset: github}, or an address, as in "
                "api: {base_url: https://api.example.com}"
            )
        return None
    if name not in presets():
        raise (node / "api" / "preset").refused(f"there is no preset {name!r}: {suggestion(name, presets())}")
    return presets()[name]


def _read(name: str, preset: PresetModel | None, model: CollectionModel, api: ApiModel, node: Node) -> Read:
    place = node / "collections" / name
    of_preset = preset.collections.get(name) if preset is not None else None
    if of_preset is None and model.read is None:
        known = f"the preset has {', '.join(preset.collections)}" if preset is not None else "there is no preset"
        raise place.refused(
            f"nothing says how {name!r} is read ({known}): say it below 'read', as in read: {{path: v1/orders, key: [id]}}"
        )
    each = {one: values(value, f"{one!r} of 'each'", node / "api" / "each" / one) for one, value in (api.each or {}).items()}
    read = _merged(ReadModel, of_preset, model.read)
    _check_each(each, read, node)
    return parse_read(read, Place(name, each, ColumnNames(_steps(model, read), read.fields is not None)), place / "read")


def _check_each_is_used(provider: ProviderModel, reads: Mapping[str, Read], node: Node) -> None:
    """Refuses values of the file for a name that no collection has: mistyped, it would leave those of the preset in force."""
    used = {name for read in reads.values() for name in read.each}
    for name in (provider.api and provider.api.each) or {}:
        if name not in used:
            raise (node / name).refused(
                f"'each' gives values to {name!r}, which stands in braces in no collection of this file: {suggestion(name, sorted(used))}"
            )


def _check_each(each: Mapping[str, object], read: ReadModel, node: Node) -> None:
    for place, names in ((node / "api" / "each", each), (node / "each", read.each or {})):
        for name in names:
            if not re.fullmatch(NAME_IN_BRACES, name):
                raise (place / name).refused(
                    f"{name!r} cannot stand in braces: expected letters, digits and _, a letter or _ first"
                )


def _steps(model: CollectionModel, read: ReadModel) -> list[tuple[str | int, ...]]:
    """Returns where the collection's columns stand in the object, and, if there are any, what the pipeline itself reads of it.

    Paths that cannot be read are refused with their columns.
    """
    found = []
    ours = [*(read.key or ()), read.version, read.created, read.deleted] if model.columns else []
    for text in (*(column.path for column in model.columns.values()), *ours):
        try:
            path = parse_path(text or "")
        except CatalogError:
            continue
        if path.root == "data":
            found.append(path.steps)
    return found


def _merged(kind: type[Model], below: StrictModel | None, above: StrictModel | None) -> Model:
    """Returns what two models say, the one above first; the result is checked again, since two halves may not go together."""
    layers = [{} if one is None else one.model_dump(exclude_unset=True, by_alias=True) for one in (below, above)]
    layers[0].pop("collections", None)
    try:
        return kind.model_validate(_laid_over(layers[0], layers[1]))
    except ValidationError as error:  # both were valid
        raise AssertionError(str(error)) from error


# Values of YAML, of any type.
def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        known = below.get(key)
        is_same = key != "auth" or value is None or known is None or value.get("type") in (None, known.get("type"))
        if key in MERGED and is_same and isinstance(known, Mapping) and isinstance(value, Mapping):
            result[key] = _laid_over(known, value)
        else:
            result[key] = value
    return result


def _base_url(api: ApiModel, node: Node) -> Setting:
    if api.base_url is None:
        raise node.refused("api has no 'base_url': add one, as in base_url: https://api.example.com, or name a preset")
    found = _address(api.base_url, node / "base_url")
    literal = found.default if isinstance(found, Variable) else found
    if literal is not None:
        try:
            Endpoint(literal, url_variable="base_url", token_variable="auth")  # noqa: S106 - the name of a key
        except ConfigurationError as error:
            raise (node / "base_url").refused(str(error)) from error
    return found


def _address(value: object, node: Node) -> Setting:
    """Returns an address: a text, `{env: NAME}`, or `{env: NAME, default: TEXT}`."""
    if isinstance(value, Mapping) and set(value) == {"env", "default"}:
        named = setting({"env": value["env"]}, "'base_url'", node)
        default = setting(value["default"], "'default' of 'base_url'", node / "default")
        if isinstance(named, Variable) and isinstance(default, str):
            return Variable(named.name, default)
    return setting(value, "'base_url'", node)


def _headers(headers: Mapping[str, object], node: Node) -> Mapping[str, Setting]:
    found = {}
    for name, value in headers.items():
        header_name(name, "header", node / name)
        refuse_literal_secret(name, value, "header", node / name)
        found[name] = setting(value, f"header {name!r}", node / name)
        if isinstance(value, str) and not (value.isprintable() and value.isascii()):
            raise (node / name).refused(f"header {name!r} cannot be sent: write printable ASCII on one line")
    return found


def _rate_limit(model: RateLimitModel, node: Node) -> RateLimit:
    for key in ("remaining", "reset", "usage"):
        if (name := getattr(model, key)) is not None:
            header_name(name, f"{key!r} of rate_limit", node / key)
    if (model.remaining is None) != (model.reset is None):
        raise node.refused("rate_limit needs both 'remaining' and 'reset', or neither: how many are left, and until when")
    if model.reset_is is not None and model.reset is None:
        raise (node / "reset_is").refused("rate_limit says what 'reset' holds, and names no such header: add reset")
    if model.usage_limit is not None and model.usage is None:
        raise (node / "usage_limit").refused("rate_limit bounds a usage, and names no header that tells it: add usage")
    said = {key: value for key in model.model_fields_set if (value := getattr(model, key)) is not None}
    return RateLimit(**said)
