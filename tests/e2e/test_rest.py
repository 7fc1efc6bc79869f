"""An API by declaration, by the real commands: from the token alone to tables, `infer`, `doctor`, windows."""

import base64
import json
import re
from collections.abc import Iterator

import pytest
from starlette.responses import JSONResponse

from tests.e2e.project import Command, MakeProject, Project, everything_in
from tests.support.issues_api import TOKEN, IssuesApi, serving_issues
from tests.support.rest_api import fake_rest

ATTRIBUTES = """\
  provider: github
  source: rest
  windows: {every: month, start: 2026-01-01}
  collections:
    issue: {columns: {title: {path: title, type: text}}}
"""


@pytest.fixture
def api() -> Iterator[IssuesApi]:
    with serving_issues() as served:
        for number in range(1, 60):
            served.put("octo/alpha" if number % 2 else "octo/beta", number)
        yield served


@pytest.fixture
def project(api: IssuesApi, make_project: MakeProject) -> Project:
    """With a token and repositories in the environment, and nothing else."""
    made = make_project("")
    made.variables.update(GITHUB_API_URL=api.url, GITHUB_TOKEN=TOKEN, GITHUB_REPOSITORIES="octo/alpha,octo/beta")
    return made


def test_infer_needs_nothing_but_the_token(project: Project, command: Command) -> None:
    inferred = command(project, "infer", "github/issue")

    assert inferred.status == 0, inferred.stderr
    assert inferred.stdout.splitlines()[:7] == [
        "# Proposed from the first 59 records of github:issue: all of them fit.",
        "type: sequin_pipeline.component.CollectionSync",
        "attributes:",
        "  provider: github",
        "  source: rest",
        "  collections:",
        "    issue:",
    ]
    assert "github_updated_at: {path: updated_at, type: timestamptz}" in inferred.stdout
    assert TOKEN not in inferred.stdout + inferred.stderr


def test_what_infer_prints_is_synced(project: Project, command: Command) -> None:
    folder = project.folder / "collections" / "github"
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(command(project, "infer", "github/issue").stdout, encoding="utf-8")
    project.variables["SEQUIN_COLLECTIONS"] = str(folder.parent)

    first = command(project, "sync")
    before = project.query("select count(*), count(title), max(xmin::text::bigint) from github.issue")
    again = command(project, "sync")

    assert (first.status, again.status) == (0, 0), first.stderr
    assert before[0][:2] == (59, 59)
    assert project.query("select count(*), count(title), max(xmin::text::bigint) from github.issue") == before


def test_infer_says_which_variable_is_missing(project: Project, command: Command) -> None:
    project.variables["GITHUB_REPOSITORIES"] = ""
    project.declare(other="  provider: other\n  source: rest\n  api: {preset: github}\n  collections: {issue: }\n")

    refused = command(project, "infer", "github/issue")

    assert "github itself is not asked, since GITHUB_REPOSITORIES is not set\n" in refused.stderr


def test_infer_prints_back_how_a_collection_is_read(project: Project, command: Command, api: IssuesApi) -> None:
    project.declare(
        tracker="  provider: tracker\n  source: rest\n  relist_hours: 6\n"
        f"  api: {{base_url: '{api.url}', auth: {{type: bearer, token: {{env: GITHUB_TOKEN}}}}, paginator: header_link}}\n"
        "  collections:\n    bug: {read: {path: repos/octo/alpha/issues, key: [id], version: updated_at, params: {per_page: 100}}}\n"
    )

    inferred = command(project, "infer", "tracker/bug")
    unknown = command(project, "infer", "tracker/story")

    assert inferred.stdout.splitlines()[4:11] == [
        "  source: rest",
        f"  api: {{base_url: '{api.url}', auth: {{type: bearer, token: {{env: GITHUB_TOKEN}}}}, paginator: {{type: header_link}}}}",
        "  relist_hours: 6",
        "  collections:",
        "    bug:",
        "      read: {path: repos/octo/alpha/issues, params: {per_page: 100}, key: [id], version: updated_at}",
        "      columns:",
    ]
    assert unknown.status == 2
    assert "nothing says how 'story' is read (there is no preset)" in unknown.stderr


def doctor(project: Project, command: Command) -> list[tuple[str, str, str]]:
    """What it finds of APIs: level, sentence, fix; how long an answer took is left out."""
    findings = json.loads(command(project, "doctor", "--json").stdout)
    told = [finding for finding in findings if finding["check"] in ("APIs", "API clock")]
    return [(one["level"], re.sub(r"in \d+ ms", "at once", one["said"]), one["fix"]) for one in told]


def test_doctor_asks_for_a_few_objects_of_each_collection(project: Project, command: Command, api: IssuesApi) -> None:
    project.declare(github=ATTRIBUTES)

    found = doctor(project, command)

    answers = "GET repos/{repository}/issues answers at once"
    told = "objects are told apart by id, their versions by updated_at, in ascending order"
    assert found == [
        ("ok", f"github/issue, value 1 of `each`: {answers}; {told}", ""),
        ("ok", f"github/issue, value 2 of `each`: {answers}; {told}", ""),
        ("ok", "within 5 s of ours", ""),
        ("ok", f"github: {api.url} says that 4,998 requests are left", ""),
    ]
    assert [(asked.path, asked.params["per_page"]) for asked in api.asked] == [
        ("/repos/octo/alpha/issues", "5"),
        ("/repos/octo/beta/issues", "5"),
    ]


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("token", "status 401"),
        ("repository", "status 404"),
        ("key", "an object has nothing at id, which is declared as its key"),
        ("version", "one has neither a time nor an integer at updated_at, which is declared as its version"),
        ("order", "the list does not come in the ascending order of 'updated_at'"),
    ],
)
def test_doctor_says_in_words_what_is_wrong_with_a_collection(
    project: Project, command: Command, api: IssuesApi, case: str, told: str
) -> None:
    project.declare(github=ATTRIBUTES)
    project.variables["GITHUB_REPOSITORIES"] = "octo/gamma" if case == "repository" else "octo/alpha"
    match case:
        case "token":
            project.variables["GITHUB_TOKEN"] = "wrong-one"
        case "key":
            api.put("octo/alpha", 0, id=None)
        case "version":
            api.put("octo/alpha", 0, updated_at="2026-01-01 or so")
        case "order":
            api.issues["octo/alpha"].reverse()

    problems = [said for level, said, fix in doctor(project, command) if level == "problem" and fix]

    assert len(problems) == 1
    assert told in problems[0]
    assert "wrong-one" not in problems[0]


@pytest.mark.parametrize(("title", "told"), [("issue 7", "which is what is stored"), ("Another", "newer than version")])
def test_explain_compares_the_object_and_not_the_time_at_which_it_looked(
    project: Project, command: Command, api: IssuesApi, title: str, told: str
) -> None:
    project.declare(github=ATTRIBUTES)
    assert command(project, "sync").status == 0
    api.put("octo/alpha", 7, title=title)

    explained = command(project, "explain", "github/issue", "7")

    assert told in explained.stdout.split("\nsource ")[1]


def test_a_window_is_read_again_by_the_command(project: Project, command: Command, api: IssuesApi) -> None:
    project.declare(github=ATTRIBUTES)
    assert command(project, "sync").status == 0
    project.execute("delete from github.issue where github.issue.upstream_id in ('5', '40')")

    filled = command(project, "backfill", "github/issue", "--from", "2026-01", "--to", "2026-01")

    assert filled.status == 0, filled.stderr
    assert project.query("select upstream_id from github.issue where upstream_id in ('5', '40')") == [("5",)]


def test_a_provider_without_its_key_does_not_stop_what_names_another(project: Project, command: Command) -> None:
    project.declare(github=ATTRIBUTES, stripe="  provider: stripe\n  source: stripe\n  collections: {plan: {}}\n")

    synced = command(project, "sync", "--provider", "github")
    all_of_them = command(project, "sync")

    assert synced.status == 0, synced.stderr
    assert "59 rows written from 59 records." in synced.stdout
    assert all_of_them.status == 2
    assert "which needs STRIPE_API_KEY: set it in the environment or in .env" in all_of_them.stderr


SECRET = "sec-71f0aa93"
THINGS = """\
  provider: tracker
  source: rest
  api:
    base_url: {url}
    auth: {auth}
    paginator: {{type: page_number, base_page: 1}}
  collections:
    thing: {{read: {{path: things, params: {{since: "{{since}}"}}, select: data, key: [id], version: updated_at, ascending: true}}}}
"""


@pytest.mark.parametrize(
    "auth",
    [
        pytest.param("{type: bearer, token: {env: TRACKER_SECRET}}", id="a token in a header"),
        pytest.param("{type: api_key, name: key, api_key: {env: TRACKER_SECRET}, location: query}", id="a key in the address"),
        pytest.param("{type: http_basic, username: me, password: {env: TRACKER_SECRET}}", id="a password"),
    ],
)
def test_a_secret_is_told_to_nobody(make_project: MakeProject, command: Command, auth: str) -> None:
    """By runs that succeed, that are refused with the secret in the refusal, and by what else asks."""
    with fake_rest() as fake:
        fake.fill(5)
        project = make_project("").declare(tracker=THINGS.format(url=fake.base_url, auth=auth))
        project.variables["TRACKER_SECRET"] = SECRET
        done = [command(project, "doctor"), command(project, "sync")]
        fake.instead["/api/things"] = lambda asked: JSONResponse(
            {"refused": asked.query.get("key") or asked.headers["authorization"]}, 403
        )
        done += [command(project, "doctor"), command(project, "sync"), command(project, "status")]

    assert [one.status for one in done] == [0, 0, 1, 1, 0], [one.stderr for one in done]
    assert any(SECRET in f"{asked.query} {asked.headers}" or "authorization" in asked.headers for asked in fake.asked)
    basic = base64.b64encode(f"me:{SECRET}".encode()).decode()
    told = [one.stdout + one.stderr for one in done] + everything_in(project.dagster_url) + everything_in(project.warehouse_url)
    assert not [text for text in told if SECRET in text or basic in text]
    assert project.query("select count(*) from tracker.thing") == [(5,)]
