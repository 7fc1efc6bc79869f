"""The page about the sandbox names every option, endpoint, form and fault that there is."""

import re

import click
import pytest
from starlette.routing import Route

from sequin_pipeline.cli.sandbox import command
from sequin_pipeline.sandbox.app import build_app
from sequin_pipeline.sandbox.faults import _NUMBERS, _TEXTS, DEFAULT_VALUES, KINDS
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.settings import ENDS, MESSAGE_FORMS, NEXT_FORMS, RECORD_FORMS, Settings
from tests.support.checkout import CHECKOUT

PAGE = (CHECKOUT / "docs" / "sandbox.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.*?) \| (.*) \|$", PAGE, flags=re.MULTILINE)
OPTIONS = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
ROUTES = [route for route in build_app(RecordedFeed(), Settings()).routes if isinstance(route, Route)]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.opts[0])
def test_each_option_has_its_row_with_its_default(option: click.Option) -> None:
    rows = [f"{first} {second}" for first, second in ROWS if re.search(rf"`{option.opts[0]}\b", first)]

    assert len(rows) == 1, f"docs/sandbox.md needs one row of its table for {option.opts[0]}"
    if option.show_default:
        assert str(option.default) in rows[0], f"the row of {option.opts[0]} does not tell the default"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_each_endpoint_is_named_with_its_methods(route: Route) -> None:
    *_, verb = path = route.path.split("/")
    named = [
        first
        for first, _ in ROWS
        if re.sub(r"\{\w+\}", "{}", route.path) in re.sub(r"\{\w+\}", "{}", first)
        or (verb in ("ack", "nack") and f"POST …/{verb}`" in first and f"/{path[2]}/" in first)
    ]
    of_streams = route.path.replace("sequin_streams", "http_pull_consumers")

    if named == [] and "sequin_streams" in route.path:
        assert "the same below `/api/sequin_streams/{name}`" in PAGE
        assert of_streams in [each.path for each in ROUTES]
    else:
        assert len(named) == 1, f"docs/sandbox.md needs one row of its table for {route.path}"
        assert {method for method in (route.methods or ()) if method != "HEAD"} <= set(re.findall(r"[A-Z]{3,}", named[0]))


@pytest.mark.parametrize("name", sorted({*ENDS, *RECORD_FORMS, *NEXT_FORMS, *MESSAGE_FORMS, *KINDS, *_NUMBERS, *_TEXTS}))
def test_each_form_and_fault_is_named(name: str) -> None:
    assert re.search(rf"[`,|\[]{name}[`:=]", PAGE), f"docs/sandbox.md does not name {name!r}"


@pytest.mark.parametrize(("kind", "value"), DEFAULT_VALUES.items())
def test_what_a_fault_does_without_a_value_is_told(kind: str, value: int) -> None:
    (row,) = [f"{first} {second}" for first, second in ROWS if f"`{kind}:" in first]

    assert f"({value})" in row
