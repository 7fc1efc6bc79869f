"""`sequin-pipeline infer` proposes a declaration for a collection from a sample of its records."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sequin_pipeline.cli.completion import complete_collections
from sequin_pipeline.cli.names import read_labels
from sequin_pipeline.cli.session import Session, announce, check_api, open_session
from sequin_pipeline.declare.suggestions import suggestion
from sequin_pipeline.environment import settings as environment
from sequin_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sequin_pipeline.catalog import Collection
    from sequin_pipeline.operate.inference.proposal import Proposal
    from sequin_pipeline.operate.inference.sample import Sample

DEFAULT_RECORDS = 1_000


@click.command()
@click.option("--records", type=click.IntRange(min=1), default=DEFAULT_RECORDS, show_default=True, help="How many to look at.")
@click.option("--sandbox", is_flag=True, help="Look at the sandbox's records, whatever WAREHOUSE_URL names.")
@click.option(
    "--table", "table_name", metavar="SCHEMA.TABLE", help="Propose how the records map onto this table of an application."
)
@click.argument("label", metavar="PROVIDER/NAME", callback=read_labels, shell_complete=complete_collections)
def command(*, label: str, records: int, sandbox: bool, table_name: str | None) -> None:
    """Print a defs.yaml for a collection of the API: a column for each field, with its type, how often it is null, and an example.

    The collection need not be declared; those of GitHub, HubSpot and Salesforce are read from there where the variables of their preset are
    set and nothing says otherwise. Every record of the sample fits what is proposed, or the first line says how many do not.
    Fields that are null in all of them come as comments. Nothing else goes to stdout: `infer P/N > defs.yaml` makes a file to begin with.
    """
    from sequin_pipeline.operate.inference.proposal import propose
    from sequin_pipeline.operate.inference.sample import read_sample
    from sequin_pipeline.operate.inference.tried import tried
    from sequin_pipeline.sources import ReadRequest
    from sequin_pipeline.sources.registry import open_source

    _check_label(label)
    beside = _collections_beside_output()
    of_preset = None if sandbox else _collection_of_preset(label, beside)
    session = open_session(wants_sandbox=sandbox, collections=beside if of_preset is None else {label: of_preset})
    announce(session)
    check_api(session)
    collection = _bare_collection(session, label)
    source = open_source(collection.source, os.environ)
    if not source.can_reread:
        raise ConfigurationError(
            f"collection {label!r} is read from a queue ({collection.source.kind}), where looking at records takes them away from the "
            "runs for a while: name the columns by hand"
        )
    sample = read_sample(source.pages(ReadRequest(frozenset({collection.id}))), collection, wanted_records=records)
    described = source.describe(collection.id)
    if not sample.records and not described:
        offered = suggestion(collection.id, sorted(source.collection_ids() or ()), are="it offers")
        raise ConfigurationError(f"the API has no record of {collection.id!r} and does not describe it: {offered}")
    if table_name is not None:
        click.echo(tried(_mapped(session, collection, sample, table_name), sample), nl=False)
        return
    click.echo(tried(propose(collection, sample, described), sample), nl=False)


def _collections_beside_output() -> "Mapping[str, Collection] | None":
    """Returns what is declared in the other files, where a shell has emptied one of them for what this command prints; else None.

    As in `infer stripe/plan > collections/stripe/defs.yaml`, which no command could load at that moment.
    """
    from sequin_pipeline.orchestration.catalog_files import definitions_folder, load_collections

    given = environment.merge_dotenv(os.environ, environment.find_project(Path.cwd()))
    folder = definitions_folder(given)
    output = _output_file(folder)
    if output is None:
        return None
    with tempfile.TemporaryDirectory(prefix="sequin-infer-") as scratch:
        others = shutil.copytree(
            folder, Path(scratch) / "collections", ignore=lambda path, names: {output.name} if Path(path) == output.parent else ()
        )
        if not any(others.glob("*/defs.yaml")):
            return {}
        return load_collections({**given, environment.SEQUIN_COLLECTIONS: str(others)})


def _collection_of_preset(label: str, beside: "Mapping[str, Collection] | None") -> "Collection | None":
    """Returns the collection as its provider's preset reads it, where the environment has what that needs and nothing says
    otherwise.

    What may say otherwise is a file of the user's that declares the provider, or an address of a records API.
    """
    from sequin_pipeline.operate.inference.rest_keys import collection_of_preset
    from sequin_pipeline.orchestration.catalog_files import load_collections
    from sequin_pipeline.sources.registry import missing_variables, source_kind

    given = environment.merge_dotenv(os.environ, environment.find_project(Path.cwd()))
    provider, _, name = label.partition("/")
    collection = collection_of_preset(provider, name)
    if collection is None or given.get(environment.SEQUIN_API_URL, "").strip():
        return None
    if given.get(environment.SEQUIN_COLLECTIONS, "").strip():
        declared = load_collections(given) if beside is None else beside
        if any(one.provider == provider for one in declared.values()):
            return None
    missing = missing_variables(collection.source, given)
    if not missing:
        return collection
    if len(missing) < len(source_kind("rest").variables(collection.source)):
        click.echo(f"{provider} itself is not asked, since {' and '.join(missing)} is not set", err=True)
    return None


def _output_file(folder: Path) -> Path | None:
    """Returns the file of definitions that our output goes to."""
    try:
        output = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):  # no file, as in a test
        return None
    return next((file for file in folder.rglob("defs.yaml") if os.path.samestat(file.stat(), output)), None)


def _mapped(session: Session, collection: "Collection", sample: "Sample", table_name: str) -> "Proposal":
    from sequin_pipeline.catalog import TableName
    from sequin_pipeline.operate.inference.mapping import propose_mapping
    from sequin_pipeline.postgres.warehouse import Warehouse, attempt
    from sequin_pipeline.table.introspect import introspect

    schema, _, name = table_name.partition(".")
    table, warehouse = TableName(schema, name), Warehouse(session.settings.warehouse_url)

    def propose() -> "Proposal":
        with warehouse.connect() as connection:
            introspected = introspect(connection, table)
            if introspected is None:
                raise ConfigurationError(
                    f"there is no table {table_name!r} in {warehouse.name}: write SCHEMA.TABLE as it is spelled there, upper and lower "
                    "case count"
                )
            return propose_mapping(connection, collection, sample, table, introspected)

    return attempt(propose, f"looking at table {table_name!r}")


def _check_label(label: str) -> None:
    provider, _, name = label.partition("/")
    if not (provider and name):
        raise ConfigurationError(f"{label!r} names no collection: write PROVIDER/NAME, as in stripe/subscription")


def _bare_collection(session: Session, label: str) -> "Collection":
    """Returns the collection without columns, whatever is declared.

    A collection that is not declared is read from where its provider's others are.
    """
    from sequin_pipeline.operate.inference.rest_keys import collection_of_source
    from sequin_pipeline.operate.inference.sample import bare_collection

    provider, _, name = label.partition("/")
    sources = [collection.source for collection in session.collections.values() if collection.provider == provider]
    if sources and sources[0].rest is not None and name not in sources[0].rest.reads:
        return collection_of_source(provider, name, sources[0])
    return bare_collection(provider, name, *sources[:1])
