"""GitHub as `emulate` plays it, filled through its own API, and what a proxy of ours changes in its answers to be more like GitHub's.

The proxy takes out of lists of pull requests what only a single one has, gives the lists of all comments of a repository (where emulate
0.12.2 takes the word `comments` for a number), and writes `since` as emulate compares it, which is as text.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.stand_ins import call, free_port, node_of, node_packages, running
from tests.support.altering_proxy import AlteringProxy, Asked, serving

TOKEN = "token_of_octocat"
REPOSITORIES = ("octocat/alpha", "octocat/beta")
ONLY_OF_ONE = (
    *(
        "merged",
        "merged_by",
        "mergeable",
        "rebaseable",
        "mergeable_state",
        "comments",
        "review_comments",
        "maintainer_can_modify",
    ),
    *("commits", "additions", "deletions", "changed_files"),
)
"""GitHub's schema of an element of the list has none of these."""

SEED = f"""\
tokens:
  {TOKEN}: {{login: octocat, scopes: [repo, user]}}
github:
  users:
    - {{login: octocat, name: The Octocat, email: octocat@example.com, company: Acme, location: Köln}}
    - {{login: hubot, name: Hubot, email: hubot@example.com, company: Acme, location: Berlin}}
  repos:
    - {{owner: octocat, name: alpha, description: "naïve 日本", language: Python, topics: [a, b], auto_init: true}}
    - {{owner: octocat, name: beta, description: second, language: Go, auto_init: true}}
"""


@dataclass(frozen=True)
class GitHub:
    """The stand-in: `url` is that of the proxy."""

    proxy: AlteringProxy

    @property
    def url(self) -> str:
        return self.proxy.url

    def call(self, method: str, path: str, body: object = None, *, raw: bytes | None = None) -> Any:
        """As an owner of the repositories; the answer is JSON."""
        return call(method, f"{self.proxy.upstream}{path}", TOKEN, body, raw=raw)

    def requests(self) -> list[str]:
        """What was asked since the last time."""
        lines = [asked.line for asked in self.proxy.asked]
        self.proxy.asked.clear()
        return lines


@contextmanager
def running_github(folder: Path) -> Iterator[GitHub]:
    """The stand-in with objects in every collection, of which each column of the shipped definitions has a value."""
    packages = node_packages("emulate")
    seed = folder / "seed.yaml"
    seed.write_text(SEED, encoding="utf-8")
    port = free_port()
    proxy = AlteringProxy(f"http://127.0.0.1:{port}", answer=_answer, alter=_alter, params=_params)
    with serving(proxy):
        program = packages / "emulate" / "dist" / "index.js"
        options = ["start", "--service", "github", "--port", str(port), "--seed", str(seed), "--base-url", proxy.url]
        with running([node_of(packages), program, *options], port, log=folder / "emulate.log"):
            github = GitHub(proxy)
            _fill(github)
            yield github


def _params(asked: Asked) -> dict[str, str]:
    since = asked.params.get("since")
    return asked.params if since is None else {**asked.params, "since": since.replace("Z", ".000Z")}


def _answer(proxy: AlteringProxy, asked: Asked) -> Any | None:
    if asked.method != "GET" or not asked.path.endswith(("/issues/comments", "/pulls/comments")):
        return None
    lists = asked.path.removesuffix("/comments")
    parents = proxy.get(f"{lists}?state=all&per_page=100")
    found = [one for parent in parents for one in proxy.get(f"{lists}/{parent['number']}/comments")]
    since = _params(asked).get("since", "")
    return sorted((one for one in found if one["updated_at"] >= since), key=lambda one: str(one["updated_at"]))


def _alter(proxy: AlteringProxy, asked: Asked, body: Any) -> Any:
    if asked.method == "GET" and asked.path.endswith("/pulls"):
        return [{name: value for name, value in pull.items() if name not in ONLY_OF_ONE} for pull in body]
    return body


def _fill(github: GitHub) -> None:
    for repository in REPOSITORIES:
        _fill_repository(github, f"/repos/{repository}")


def _fill_repository(github: GitHub, path: str) -> None:
    github.call("PATCH", path, {"license": {"key": "mit", "name": "MIT License", "spdx_id": "MIT"}})
    milestone = github.call("POST", f"{path}/milestones", {"title": "First", "due_on": "2026-12-01T00:00:00Z"})
    first = github.call(
        "POST",
        f"{path}/issues",
        {"title": "one ☃", "body": "Текст", "labels": ["bug"], "assignees": ["octocat"], "milestone": milestone["number"]},
    )
    for number in range(2, 5):
        github.call("POST", f"{path}/issues", {"title": f"issue {number}"})
    github.call("PATCH", f"{path}/issues/{first['number']}", {"state": "closed", "state_reason": "completed"})
    github.call("POST", f"{path}/issues/{first['number']}/comments", {"body": "I agree."})
    _fill_pull_requests(github, path)
    release = github.call("POST", f"{path}/releases", {"tag_name": "v1", "name": "One", "body": "All of it."})
    github.call("POST", f"{path}/releases/{release['id']}/assets?name=all.bin", raw=b"\0\1")


def _fill_pull_requests(github: GitHub, path: str) -> None:
    head = github.call("GET", f"{path}/git/ref/heads/main")["object"]["sha"]
    for branch in ("work", "more"):
        github.call("POST", f"{path}/git/refs", {"ref": f"refs/heads/{branch}", "sha": head})
        content = base64.b64encode(branch.encode()).decode()
        github.call("PUT", f"{path}/contents/{branch}.txt", {"message": "write", "content": content, "branch": branch})
        pull = github.call("POST", f"{path}/pulls", {"title": f"Add {branch}", "head": branch, "base": "main", "body": "So."})
        number = pull["number"]
        github.call("POST", f"{path}/pulls/{number}/requested_reviewers", {"reviewers": ["octocat"]})
        github.call("POST", f"{path}/issues/{number}/labels", {"labels": ["bug"]})
        line = {"body": "Why?", "commit_id": pull["head"]["sha"], "path": f"{branch}.txt", "line": 1, "side": "RIGHT"}
        github.call("POST", f"{path}/pulls/{number}/comments", line)
        comments = [{"path": f"{branch}.txt", "position": 1, "body": "Here."}]
        github.call("POST", f"{path}/pulls/{number}/reviews", {"event": "COMMENT", "body": "Read.", "comments": comments})
        if branch == "work":
            github.call("PUT", f"{path}/pulls/{number}/merge", {})
