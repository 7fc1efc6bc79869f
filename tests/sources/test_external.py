"""Sources of other packages: found by an entry point or by their class, opened with their options, and refused in words."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sequin_pipeline.catalog import SourceDeclaration
from sequin_pipeline.errors import CatalogError, ConfigurationError
from sequin_pipeline.reads import Variable
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.external import find_external, offered_names
from sequin_pipeline.sources.registry import missing_variables, open_source, source_kind
from tests.support.declarations import declared

MODULE = """
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.base import SourceBase

class TicketSource(SourceBase):
    variables = ("TICKET_REGION",)
    observes_time = frozenset({"queue"})
    collections = frozenset({"ticket", "queue"})
    def __init__(self, url, token="none"):
        self.token = token
        self.identity = SourceIdentity("tickets", url)
    def __repr__(self):
        return f"TicketSource({self.identity.base_url!r})"

class Halfway:
    can_reread = True
    def pages(self, request): ...

def not_a_class(): ...
"""
ENTRY_POINTS = "[sequin_pipeline.sources]\ntickets = ticket_source:TicketSource\nstripe = ticket_source:TicketSource\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages with a module `ticket_source`, whose package offers it as `tickets`."""
    (tmp_path / "ticket_source.py").write_text(MODULE)
    (tmp_path / "broken_source.py").write_text("import a_package_that_nobody_has\n")
    install(tmp_path, "ticket-source")
    monkeypatch.syspath_prepend(str(tmp_path))
    find_external.cache_clear()
    yield tmp_path
    find_external.cache_clear()
    for name in ("ticket_source", "broken_source"):
        sys.modules.pop(name, None)


def install(folder: Path, name: str, entry_points: str = ENTRY_POINTS) -> None:
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)


OPTIONS = {"url": "https://tickets.test", "token": Variable("TICKET_TOKEN")}


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["tickets", "ticket_source:TicketSource"], ids=["an entry point", "a class"])
def test_a_source_of_another_package_is_opened_with_its_options_from_the_environment(name: str) -> None:
    declaration = SourceDeclaration(name, options=OPTIONS)

    assert missing_variables(declaration, {}) == ("TICKET_REGION", "TICKET_TOKEN")
    source = open_source(declaration, {"TICKET_TOKEN": "secret\n", "TICKET_REGION": "eu"})
    assert source.identity == SourceIdentity("tickets", "https://tickets.test")
    assert vars(source)["token"] == "secret"
    assert "secret" not in repr(source) + repr(declaration)


@pytest.mark.usefixtures("package")
def test_what_a_source_observes_is_declared_by_its_class_for_each_collection() -> None:
    file = """
      provider: help
      source: ticket_source:TicketSource
      options: {url: "https://tickets.test", token: {env: TICKET_TOKEN}}
      collections: {ticket: {}, queue: {}}
    """

    ticket, queue = declared(file)

    assert (ticket.observes_time, queue.observes_time) == (False, True)
    assert ticket.source.options == OPTIONS


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("source: ticketz", "there is no source 'ticketz': did you mean 'tickets'? A class of your own is named as in "
         "package.module:Class"),
        ("source: no_such_package:Source", "source 'no_such_package:Source': module 'no_such_package' cannot be imported here "
         "(ModuleNotFoundError: No module named 'no_such_package'): install the package that has it into the environment of this process, "
         "or fix the name"),
        ("source: broken_source:Source", "source 'broken_source:Source': module 'broken_source' cannot be imported here "
         "(ModuleNotFoundError: No module named 'a_package_that_nobody_has'): install the package that has it into the environment of this "
         "process, or fix the name"),
        ("source: ticket_source:Tickets", "source 'ticket_source:Tickets': module 'ticket_source' has no 'Tickets'; sources in it: "
         "Halfway, SourceBase, TicketSource"),
        ("source: ticket_source:Halfway", "source 'ticket_source:Halfway' lacks observes_time, open, committed, head, describe, "
         "collection_ids, which the class of a source has: see 'A source of your own' in docs/sources.md"),
        ("source: ticket_source:not_a_class", "source 'ticket_source:not_a_class' is no class but function: name the class of the source"),
        ("source: sequin\noptions: {url: x}", "source 'sequin' takes no 'options', which are for a class of your own (source: "
         "package.module:Class): remove them"),
        ("source: tickets\nrelist_hours: 6", "source 'tickets' takes no 'relist_hours', since its records come from one place: remove it"),
    ],
    ids=["unknown", "no module", "broken module", "no class", "half a class", "a function", "options", "relist_hours"],
)  # fmt: skip
def test_a_source_that_cannot_be_used_is_refused_in_words_where_it_is_declared(lines: str, said: str) -> None:
    with pytest.raises(CatalogError) as refused:
        declared(f"provider: help\n{lines}\ncollections: {{ticket: {{}}}}\n")

    assert str(refused.value) == said


@pytest.mark.usefixtures("package")
def test_a_collection_that_the_class_does_not_have_is_refused() -> None:
    with pytest.raises(CatalogError, match="source 'tickets' cannot list 'tickets': did you mean 'ticket'"):
        declared("provider: help\nsource: tickets\ncollections: {tickets: {}}\n")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"url": "u", "tokn": "t"},
            "`options` of source 'tickets': got an unexpected keyword argument 'tokn'; it takes url, token",
        ),
        ({}, "`options` of source 'tickets': missing a required argument: 'url'; it takes url, token"),
    ],
    ids=["unknown", "missing"],
)
def test_options_that_the_class_does_not_take_are_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_source(SourceDeclaration("tickets", options=options), {"TICKET_REGION": "eu"})

    assert str(refused.value) == said


def test_two_packages_that_offer_one_name_are_both_named(package: Path) -> None:
    install(package, "other-tickets")

    with pytest.raises(ConfigurationError) as refused:
        source_kind("tickets")

    assert str(refused.value) == (
        "source 'tickets' is offered by package 'other-tickets' and by package 'ticket-source': uninstall one of them, or name the class, "
        "as in ticket_source:TicketSource"
    )


@pytest.mark.usefixtures("package")
def test_a_package_cannot_take_the_place_of_a_source_of_the_product() -> None:
    assert "stripe" in offered_names()
    assert source_kind("stripe").reads_accounts
