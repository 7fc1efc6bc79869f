"""This module turns what a defs.yaml or a preset says below `read` into a Read, or into a CatalogError with file and line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sequin_pipeline.declare.node import Node
from sequin_pipeline.declare.paginators import paginator
from sequin_pipeline.declare.placeholders import COLUMNS, RESERVED, TIMES, ColumnNames, names_in
from sequin_pipeline.declare.rest_models import ChangesModel, FieldsModel, ReadModel, SinceModel
from sequin_pipeline.declare.settings import json_path, moment, refuse_literal_secret, seconds, values, with_settings
from sequin_pipeline.declare.suggestions import suggestion
from sequin_pipeline.reads import FieldList, JsonPath, Read, Setting, Since


@dataclass(frozen=True)
class Place:
    """This value says where a `read` stands.

    That is its collection, the values of the names in braces that hold for all, and what its columns ask for.
    """

    name: str
    each: Mapping[str, tuple[Setting, ...]]
    columns: ColumnNames


def parse_read(model: ReadModel, place: Place, node: Node) -> Read:
    """Returns how a collection is read; `model` is what the file says upon what the preset says."""
    of = f"read of {place.name!r}"
    if model.path is None:
        raise node.refused(f"{of} has no 'path', by which the list is asked for: add one, as in path: v1/orders")
    if not model.key:
        raise node.refused(f"{of} has no 'key', by which objects are told apart: add one, as in key: [id]")
    each = {name: values(value, f"{name!r} of 'each'", node / "each" / name) for name, value in (model.each or {}).items()}
    _check_names(model, {**place.each, **each}, of, node)
    _check_time(model, of, node)
    request = _Request(model, place, of, node)
    used = {*_names(model), *names_in([model.detail or "", (model.changes and model.changes.detail) or ""])}
    unused = next((name for name in each if name not in used), None)
    if unused is not None:
        raise (node / "each" / unused).refused(
            f"{of} gives values to {unused!r}, which stands in braces nowhere: the list would be read several times; remove it"
        )
    return Read(
        path=request.path(),
        key=tuple(json_path(one, f"'key' of {of}", node / "key" / index) for index, one in enumerate(model.key)),
        select=request.select(),
        version=_optional(model.version, "version", of, node),
        created=_optional(model.created, "created", of, node),
        deleted=_optional(model.deleted, "deleted", of, node),
        method=model.method or "GET",
        params=request.params(),
        json=request.json(),
        paginator=request.paginator(),
        each={name: found for name, found in {**place.each, **each}.items() if name in used},
        since=_since(model.since, of, node / "since"),
        is_ascending=bool(model.ascending),
        is_descending=bool(model.descending),
        detail=request.detail(),
        restart_after=model.restart_after,
        fields=_fields(model.fields, of, node / "fields"),
        changes=_changes(model, place, of, node / "changes"),
    )


def _changes(model: ReadModel, place: Place, of: str, node: Node) -> Read | None:
    """Returns how what has changed is asked for; whatever it leaves unsaid is that of the list."""
    changes = model.changes
    if changes is None:
        return None
    request = _Request(changes, place, f"changes of {place.name!r}", node)
    return Read(
        path=request.path() if changes.path is not None else (model.path or "").lstrip("/"),
        key=(),
        select=request.select() if changes.select is not None else _Request(model, place, of, node).select(),
        method=changes.method or "GET",
        params=request.params(),
        json=request.json(),
        paginator=request.paginator(),
        since=_since(changes.since, of, node / "since"),
        is_ascending=bool(changes.ascending),
        is_descending=bool(changes.descending),
        detail=request.detail(),
        restart_after=changes.restart_after,
    )


@dataclass(frozen=True)
class _Request:
    """This value has the parts that a list and its changes have in common."""

    model: ChangesModel
    place: Place
    of: str
    node: Node

    def path(self) -> str:
        return _path(self.model.path or "", "path", self.of, self.node / "path")

    def select(self) -> JsonPath:
        if self.model.select is None:
            return ()
        return json_path(self.model.select, f"'select' of {self.of}", self.node / "select")

    def params(self) -> Mapping[str, object]:
        for name, value in (self.model.params or {}).items():
            refuse_literal_secret(name, value, "parameter", self.node / "params" / name)
            if isinstance(value, Mapping) and set(value) != {"env"}:
                raise (self.node / "params" / name).refused(
                    f"parameter {name!r} of {self.of} is a mapping, which no query holds: write a text, a number, a boolean, a list of "
                    "these, or {env: NAME}"
                )
        found = self.place.columns.fill(self.model.params or {})
        named = with_settings(found, f"a parameter of {self.of}", self.node / "params")
        assert isinstance(named, dict)  # noqa: S101 - what a mapping becomes
        return {name: value for name, value in named.items() if value is not None}

    def json(self) -> Mapping[str, object] | None:
        if self.model.body is None:
            return None
        if (self.model.method or "GET") != "POST":
            raise (self.node / "json").refused(f"{self.of} has a 'json', which only a POST sends: add method: POST")
        found = self.place.columns.fill(self.model.body)
        named = with_settings(found, f"'json' of {self.of}", self.node / "json")
        assert isinstance(named, dict)  # noqa: S101 - as above
        return named

    def detail(self) -> str | None:
        if self.model.detail is None:
            return None
        found = self.place.columns.fill(self.model.detail)
        return _path(str(found or ""), "detail", self.of, self.node / "detail", takes_query=True)

    def paginator(self) -> Mapping[str, object] | None:
        return None if self.model.paginator is None else paginator(self.model.paginator, self.node / "paginator")


def _optional(text: str | None, key: str, of: str, node: Node) -> JsonPath | None:
    return None if text is None else json_path(text, f"{key!r} of {of}", node / key)


def _path(text: str, key: str, of: str, node: Node, *, takes_query: bool = False) -> str:
    """Returns a path below `base_url`; nothing in a file may lead to another origin, which would get the credential."""
    if "://" in text or text.startswith("//") or any(step == ".." for step in text.split("/")):
        raise node.refused(f"{key!r} of {of} leads away from base_url: write a path below it, as in v1/orders")
    if "#" in text or ("?" in text and not takes_query):
        raise node.refused(f"{key!r} of {of} has a query: put its parameters below 'params'")
    if not text.strip("/ "):
        raise node.refused(f"{key!r} of {of} is empty: write a path below base_url, as in v1/orders")
    return text.lstrip("/")


def _fields(model: FieldsModel | None, of: str, node: Node) -> FieldList | None:
    if model is None:
        return None
    return FieldList(
        path=_path(model.path, "path", f"the fields of {of}", node / "path", takes_query=True),
        name=json_path(model.name, f"'name' of the fields of {of}", node / "name"),
        select=() if model.select is None else json_path(model.select, f"'select' of the fields of {of}", node / "select"),
    )


def _since(model: SinceModel | None, of: str, node: Node) -> Since:
    if model is None:
        return Since()
    plain = Since()
    return Since(
        format=model.format or plain.format,
        lookback_seconds=0 if model.lookback is None else seconds(model.lookback, f"'lookback' of {of}", node / "lookback"),
        first=plain.first if model.first is None else moment(model.first, f"'first' of {of}", node / "first"),
    )


def _parts(model: ChangesModel) -> Iterator[tuple[str, object]]:
    yield from (("path", model.path), ("params", model.params), ("json", model.body))


def _names(model: ReadModel) -> Iterator[str]:
    yield from (name for _, part in _parts(model) for name in names_in(part))
    if model.changes is not None:
        yield from (name for _, part in _parts(model.changes) for name in names_in(part))


def _check_names(model: ReadModel, each: Mapping[str, object], of: str, node: Node) -> None:
    """Refuses names in braces that nothing fills, and a name given to values that stands for something else."""
    _check_request_names(model, each, of, node)
    for name in names_in(model.fields.path) if model.fields is not None else ():
        if name not in each:
            said = suggestion(name, each, are="'each' has")
            raise (node / "fields" / "path").refused(f"{{{name}}} in 'path' of the fields of {of} stands for nothing: {said}")
    taken = next((name for name in model.each or {} if name in RESERVED), None)
    if taken is not None:
        raise (node / "each" / taken).refused(
            f"{of} gives values to {taken!r}, which stands for something else: take another name"
        )


def _check_request_names(model: ReadModel, each: Mapping[str, object], of: str, node: Node) -> None:
    for request, place in ((model, node), (model.changes, node / "changes")):
        for key, part in _parts(request) if request is not None else ():
            for name in names_in(part):
                known = [*each, *TIMES, *(["fields"] if model.fields is not None else [])]
                if name in known or name.startswith(COLUMNS):
                    continue
                raise (place / key).refused(
                    f"{{{name}}} in {key!r} of {of} stands for nothing: {suggestion(name, known, are='there may be')} Give it values below "
                    "'each', or, if the braces are the API's own, write a space behind the first"
                )


def _check_time(model: ReadModel, of: str, node: Node) -> None:
    """Refuses what asks for changes, or believes in an order, where nothing tells versions apart."""
    has_since = "since" in set(_names(model))
    if has_since and model.version is None:
        raise node.refused(
            f"{of} asks for what has changed since a time, and names no 'version': add one, as in version: updated_at"
        )
    for request, place in ((model, node), (model.changes, node / "changes")):
        if request is None:
            continue
        asks = "since" in {name for _, part in _parts(request) for name in names_in(part)}
        if request.ascending and request.descending:
            raise (place / "descending").refused(f"{of} is both ascending and descending: remove one of the two")
        for key in ("ascending", "descending"):
            if getattr(request, key) and model.version is None:
                raise (place / key).refused(
                    f"{of} is {key!r} by a version that it does not name: add one, as in version: updated_at"
                )
        if request.since is not None and not asks:
            raise (place / "since").refused(
                f"{of} says how a time is written, and {{since}} stands in none of path, params and json: add it, or remove 'since'"
            )
        if request.restart_after is not None and not (asks and request.ascending):
            raise (place / "restart_after").refused(
                f"{of} begins anew at the newest version, which takes a list that is ascending and is asked for by {{since}}"
            )
    if model.changes is not None and "since" not in {name for _, part in _parts(model.changes) for name in names_in(part)}:
        raise (node / "changes").refused(
            f"changes of {of} do not ask by {{since}}: they would be the whole list; add it, or remove them"
        )
