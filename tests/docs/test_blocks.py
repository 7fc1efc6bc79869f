"""Every fenced block of the documents is tried, or says why not. What a block is, and how it says so, is in blocks.py."""

import json
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import psycopg
import pytest
import yaml

from sequin_pipeline.catalog import Collection
from sequin_pipeline.cli import group
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.orchestration.catalog_files import load_collections
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.table.managed import prepare_table
from sequin_pipeline.table.target import collection_target
from tests.docs.blocks import BLOCKS, FRAGMENTS, LANGUAGES, PAGES, Block
from tests.docs.programs import fault_of
from tests.docs.shell import commands_of, without_heredocs
from tests.support.checkout import CHECKOUT
from tests.support.postgres import PostgresServer

pytestmark = [
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
    # Dagster's command line and its graph are imported for a few rows.
    pytest.mark.slow,
]

COMPONENT = "sequin_pipeline.component.CollectionSync"
RUN_BY_OTHERS = {"docs/io-manager.md": "tests/docs/test_io_manager_page.py"}
"""Pages whose programs another test runs and compares with what the page prints: here they are only compiled."""


@pytest.fixture(scope="module")
def shipped() -> dict[str, Collection]:
    return load_collections({})


def those_in(*languages: str) -> pytest.MarkDecorator:
    """The blocks in these languages as the rows of a test."""
    chosen = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in chosen])


def test_every_block_says_what_it_is() -> None:
    """A new language needs a test of its own below."""
    unknown = {block.place: block.language for block in BLOCKS if block.language not in LANGUAGES}

    assert unknown == {}, f"write one of {', '.join(LANGUAGES)} behind the three backticks of these blocks"


def test_no_block_is_left_out_without_its_reason() -> None:
    fences = sum(len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), flags=re.MULTILINE)) for page in PAGES)
    tried = Counter("not run" if block.reason is not None else block.language for block in BLOCKS)

    assert sum(tried.values()) * 2 == fences
    assert [block.place for block in BLOCKS if block.reason is not None and len(block.reason.split()) < 4] == []
    assert [block.place for block in BLOCKS if block.fragment is not None and block.fragment not in FRAGMENTS] == [], (
        f"FRAGMENTS of tests/docs/blocks.py knows {', '.join(FRAGMENTS)}"
    )
    assert tried["not run"] * 4 < sum(tried.values()) - tried["text"], "most blocks should be tried: see the comments `not run`"


# ---- shell


@those_in("sh", "console")
@pytest.mark.processes
def test_the_commands_of_a_block_exist_with_their_options(block: Block) -> None:
    text = typed(block)
    form = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    folder = (
        block.page.parent if (block.page.parent / "package.json").exists() or block.page.parts[-3] == "examples" else CHECKOUT
    )

    assert form.stderr == "", f"{block.place}: bash cannot read this"
    commands = list(commands_of(text))
    assert commands != [], f"{block.place}: there is no command; write ```text where nothing is typed"
    if block.reason is None:
        faults = [fault for command in commands if (fault := fault_of(command, folder)) is not None]
        assert faults == [], f"{block.place}: these commands do not work as they are printed"


LABEL = re.compile(r"([a-z][a-z0-9_]*)[/:]([A-Za-z0-9_.]+)")


@those_in("sh", "console")
def test_the_collections_of_a_command_are_shipped_or_declared_on_the_page(block: Block, shipped: dict[str, Collection]) -> None:
    yaml_of_page = "".join(each.text for each in BLOCKS if each.page == block.page and each.language == "yaml")
    named = [
        f"{found[1]}/{found[2]}"
        for command in commands_of(typed(block))
        if command.program == "sequin-pipeline"
        for word in command.words[1:]
        if (found := LABEL.fullmatch(word))
    ]

    strange = [name for name in named if name not in shipped and f"    {name.partition('/')[2]}:" not in yaml_of_page]
    assert strange == [], (
        f"{block.place}: neither is this collection shipped ({', '.join(shipped)}), nor does the page declare it"
    )


def typed(block: Block) -> str:
    """What the reader types: of a session the lines after `$ `, with those that continue them."""
    if block.language == "sh":
        return block.text
    assert block.text.startswith("$ "), f"{block.place}: a session begins with `$ ` and a command"
    lines, continues = [], False
    for line in block.text.splitlines():
        if line.startswith("$ ") or continues:
            lines.append(line.removeprefix("$ "))
            continues = line.endswith("\\")
    return "\n".join(lines) + "\n"


@those_in("text")
def test_what_is_no_input_holds_no_command(block: Block) -> None:
    first_words = [line.split()[0] for line in block.text.splitlines() if line.split()]

    assert not {"$", "sequin-pipeline", "dg", "make"} & set(first_words), f"{block.place}: write ```sh or ```console"


SPOKEN = re.compile(r"(?<!`)`(sequin-pipeline [^`]+)`")
"""Commands within sentences and tables."""


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(CHECKOUT))) for page in PAGES])
def test_the_commands_within_sentences_exist_with_their_options(page: Path) -> None:
    spoken = SPOKEN.findall(page.read_text(encoding="utf-8").replace("\n", " "))

    faults = {each: fault for each in spoken for words in readings(each) if (fault := unknown_word(words)) is not None}
    assert faults == {}, f"{page.relative_to(CHECKOUT)} names commands or options that there are not"


def readings(spoken: str) -> Iterator[list[str]]:
    """The words of a command as a synopsis has it: `[--json]` may be left out, `list|show` is one or the other, `P/N…` are several."""
    words = re.sub(r"[\[\]…]|\.\.\.", " ", spoken.replace("\\|", "|")).split()[1:]
    choices = [word.split("|") if re.fullmatch(r"[a-z]+(\|[a-z]+)+", word) else [word] for word in words]
    for position in range(max(map(len, choices), default=0)):
        yield [choice[min(position, len(choice) - 1)] for choice in choices]


def unknown_word(words: list[str]) -> str | None:
    """Says which command is none, or which option a command has not; what is no option is not looked at."""
    command: click.Command = group
    context, name = click.Context(group), "sequin-pipeline"
    for word in words:
        if word.startswith("-"):
            options = {each for parameter in command.get_params(context) for each in (*parameter.opts, *parameter.secondary_opts)}
            if word.partition("=")[0] not in options:
                return f"{name} has no option {word}: there are {', '.join(sorted(options))}"
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            if found is None:
                return f"there is no command {word!r}: there are {', '.join(command.list_commands(context))}"
            command, context, name = found, click.Context(found), word
    return None


# ---- declarations


@those_in("yaml")
def test_a_declaration_loads(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CHECKOUT / "examples" / "tracker"))  # as if installed, for the source that it declares
    loads(block.place, block.whole(), tmp_path, is_run=block.reason is None)


@those_in("diff")
def test_both_sides_of_a_change_load(block: Block, tmp_path: Path) -> None:
    lines = block.text.splitlines(keepends=True)

    for name, leaves_out in (("before", "+"), ("after", "-")):
        side = "".join(line[1:] for line in lines if not line.startswith(leaves_out))
        loads(f"{block.place} ({name})", side, tmp_path / name, is_run=block.reason is None)


@those_in("sh")
def test_a_file_that_a_command_writes_is_sound(block: Block, tmp_path: Path) -> None:
    """A declaration loads, a program compiles, and a .env names variables that somebody reads."""
    _, documents = without_heredocs(block.text)

    for number, (line, document) in enumerate(documents.items()):
        if "defs.yaml" in line:
            loads(block.place, document, tmp_path / str(number), is_run=True)
        elif ".py" in line:
            compile(document, block.place, "exec")
        elif ".env" in line:
            faults = [fault for command in commands_of(document) if (fault := fault_of(command, CHECKOUT)) is not None]
            assert faults == [], f"{block.place}: this .env sets what nobody reads"
        else:
            pytest.fail(f"{block.place}: what is {line!r}? Let this test look at it")


def loads(place: str, text: str, folder: Path, *, is_run: bool) -> None:
    """Loads a defs.yaml as every command does; other YAML has to say why it is not."""
    documents = list(yaml.safe_load_all(text))
    if not is_run:
        return
    assert isinstance(documents[0], dict), f"{place}: this YAML is no mapping"
    assert documents[0].get("type") == COMPONENT, (
        f"{place}: this YAML has no `type: {COMPONENT}`. A part of one says `<!-- fragment: attributes -->` on the line above, "
        "and another file `<!-- not run: REASON -->`"
    )
    provider = documents[0]["attributes"]["provider"]
    (folder / provider).mkdir(parents=True)
    (folder / provider / "defs.yaml").write_text(text, encoding="utf-8")
    assert load_collections({"SEQUIN_COLLECTIONS": str(folder)}) != {}


# ---- programs


@those_in("python")
def test_a_program_runs(block: Block, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    program = compile(block.whole(), block.place, "exec")
    if block.reason is None and str(block.page.relative_to(CHECKOUT)) not in RUN_BY_OTHERS:
        monkeypatch.setenv("WAREHOUSE_URL", request.getfixturevalue("warehouse_url"))
        exec(program, {"__name__": "__main__"})


@pytest.mark.parametrize(("page", "test"), RUN_BY_OTHERS.items())
def test_a_page_whose_programs_are_run_elsewhere_is_named_there(page: str, test: str) -> None:
    assert Path(page).name in (CHECKOUT / test).read_text(encoding="utf-8")


@those_in("json")
def test_json_is_json(block: Block) -> None:
    json.loads(block.whole())


@those_in("jsonl")
def test_each_line_is_json(block: Block) -> None:
    for line in block.whole().splitlines():
        json.loads(line)


@those_in("http")
def test_a_request_or_an_answer_has_its_form(block: Block) -> None:
    head, _, body = block.text.partition("\n\n")
    first, *headers = head.splitlines()

    assert re.fullmatch(r"(GET|POST|DELETE) /\S*|HTTP/1\.1 \d{3} [A-Z].*", first), f"{block.place}: no request and no answer"
    assert all(re.fullmatch(r"[A-Za-z-]+: \S.*", line) for line in headers), f"{block.place}: a header reads `Name: value`"
    if body:
        json.loads(body)


@those_in("toml")
def test_toml_is_toml(block: Block) -> None:
    tomllib.loads(block.whole())


@those_in("mermaid")
def test_a_drawing_is_of_a_known_kind(block: Block) -> None:
    assert block.text.split()[0] in ("flowchart", "sequenceDiagram", "stateDiagram-v2")


# ---- statements


@pytest.fixture(scope="module")
def tables_url(postgres_server: PostgresServer, shipped: dict[str, Collection]) -> Iterator[str]:
    """A database with the ledger and the empty table of every shipped collection."""
    database = postgres_server.make_database()
    with Warehouse(postgres_server.url(database)).connect() as connection:
        migrate(connection)
        for collection in shipped.values():
            ledger = Ledger(str(collection.table), collection.label)
            prepare_table(connection, collection_target(collection), ledger, source=SourceIdentity("sequin", "http://demo"))
    yield postgres_server.url(database)
    postgres_server.release(database)


@those_in("sql")
def test_statements_run_where_the_shipped_tables_are(block: Block, request: pytest.FixtureRequest) -> None:
    if block.reason is None:
        with psycopg.connect(request.getfixturevalue("tables_url")) as connection, connection.transaction(force_rollback=True):
            connection.execute(block.whole().encode())


# ---- what would be noticed


@pytest.mark.parametrize(
    ("typed_text", "fault"),
    [
        ("sequin-pipeline sync --provder stripe", "`sequin-pipeline sync --provder stripe`: No such option '--provder'"),
        ("export A=b && .venv/bin/sequin-pipeline snyc", "`.venv/bin/sequin-pipeline snyc`: No such command 'snyc'"),
        ("sequin-pipeline db url nowhere", "`sequin-pipeline db url nowhere`: Invalid value for '["),
        ('psql "$(sequin-pipeline db uri warehouse)"', "`sequin-pipeline db uri warehouse`: No such command 'uri'"),
        ("x=$(python -c 'print(1)')/bin; echo $(sequin-pipeline db uri)", "`sequin-pipeline db uri`: No such command 'uri'"),
        ("make snyc", "`make snyc`: the Makefile has no target 'snyc'"),
        ("make test Q=1", "`make test Q=1`: the Makefile has no variable 'Q'"),
        (
            "SEQUIN_COLLECTION=x sequin-pipeline sync",
            "`sequin-pipeline sync`: nothing in the package reads the variable SEQUIN_COLLECTION",
        ),
        ("dg launch --asset x", "`dg launch --asset x`: No such option '--asset'"),
        (
            "pip install 'sequin-pipeline[embeded]'  # a comment",
            "`pip install sequin-pipeline[embeded]`: the package has no extra",
        ),
        ("psql -f deploy/no_role.sql | cat", "`psql -f deploy/no_role.sql`: there is no file 'deploy/no_role.sql'"),
        ("kubectl get pods", "`kubectl get pods`: no rule for the program 'kubectl'"),
    ],
)
def test_a_command_that_would_not_work_is_noticed(typed_text: str, fault: str) -> None:
    (found,) = [each for command in commands_of(typed_text) if (each := fault_of(command, CHECKOUT)) is not None]

    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("spoken", "fault"),
    [
        ("sequin-pipeline rejects list\\|shwo P/N… [--all]", "there is no command 'shwo'"),
        ("sequin-pipeline sync [--ful-refresh]", "sync has no option --ful-refresh"),
        ("sequin-pipeline statsu", "there is no command 'statsu'"),
    ],
)
def test_a_wrong_command_within_a_sentence_is_noticed(spoken: str, fault: str) -> None:
    (found,) = [each for words in readings(spoken) if (each := unknown_word(words)) is not None]

    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("source: stripe\n", "`<!-- fragment: attributes -->`"),
        (f"type: {COMPONENT}\nattributes: {{provider: stripe, collections: {{a: {{colums: {{}}}}}}}}\n", "colums"),
        ("- a list\n", "this YAML is no mapping"),
    ],
)
def test_a_declaration_that_does_not_load_is_noticed(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises((AssertionError, CatalogError), match=re.escape(fault)):
        loads("a page", text, tmp_path, is_run=True)
