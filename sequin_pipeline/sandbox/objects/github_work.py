"""This module makes what is worked on at GitHub: issues, pull requests, comments on both.

Issues and pull requests are numbered in one sequence of the owner.
"""

from datetime import datetime

from sequin_pipeline.sandbox.dice import HEX, Dice
from sequin_pipeline.sandbox.objects import JsonObject, Lifetime, words
from sequin_pipeline.sandbox.objects.account import Account
from sequin_pipeline.sandbox.objects.github_code import WEB, next_id, reactions_of, reference_of, time_of

LABELS = (
    ("bug", "d73a4a"),
    ("documentation", "0075ca"),
    ("enhancement", "a2eeef"),
    ("good first issue", "7057ff"),
    ("p1", "e11d21"),
)
"""These are name and colour."""
ASSOCIATIONS = ("OWNER", "MEMBER", "CONTRIBUTOR", "NONE")


def _labels(dice: Dice, repository_url: str) -> list[JsonObject]:
    return [
        {
            "id": 1_900_000_000 + place,
            "url": f"{repository_url}/labels/{name}",
            "name": name,
            "color": color,
            "default": place < 4,
        }
        for place, (name, color) in enumerate(LABELS)
        if dice.chance(0.2)
    ]


def _milestone(dice: Dice, repository_url: str, life: Lifetime) -> JsonObject:
    number = dice.between(1, 9)
    return {
        "url": f"{repository_url}/milestones/{number}",
        "id": 9_800_000 + number,
        "number": number,
        "title": f"v{number}.0",
        "description": dice.maybe(0.5, words.text(dice, 1)),
        "open_issues": dice.below(20),
        "closed_issues": dice.below(60),
        "state": dice.pick(("open", "closed")),
        "created_at": time_of(life.created_at),
        "due_on": dice.maybe(0.5, time_of(life.updated_at)),
    }


def _ticket(dice: Dice, account: Account, life: Lifetime, *, endpoint: str, page: str) -> JsonObject:
    """Makes what issues and pull requests share; about a third are closed."""
    repository, author = account.pick("repository", dice), account.pick("user", dice)
    assignee = reference_of(account.pick("user", dice)) if dice.chance(0.5) else None
    number, is_closed = account.next_serial("ticket"), dice.chance(0.35)
    return {
        "url": f"{repository['url']}/{endpoint}/{number}",
        "repository_url": repository["url"],
        "html_url": f"{repository['html_url']}/{page}/{number}",
        "number": number,
        "title": words.text(dice, 1)[:72],
        "user": reference_of(author),
        "labels": _labels(dice, repository["url"]),
        "state": "closed" if is_closed else "open",
        "locked": dice.chance(0.03),
        "assignee": assignee,
        "assignees": [assignee] if assignee else [],
        "milestone": _milestone(dice, repository["url"], life) if dice.chance(0.3) else None,
        "comments": dice.below(20),
        "created_at": time_of(life.created_at),
        "updated_at": time_of(life.updated_at),
        "closed_at": time_of(life.updated_at) if is_closed else None,
        "author_association": dice.pick(ASSOCIATIONS),
        "active_lock_reason": None,
        "body": dice.maybe(0.9, words.text(dice, 3)),
    }


def make_issue(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    ticket = _ticket(dice, account, life, endpoint="issues", page="issues")
    return {
        "id": next_id(dice, account, "issue", first=2_150_000_000),
        "node_id": f"I_kwDO{dice.token(12)}",
        **ticket,
        "state_reason": "completed" if ticket["state"] == "closed" else None,
        "reactions": reactions_of(dice, ticket["url"]),
    }


def make_pull_request(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    ticket = _ticket(dice, account, life, endpoint="pulls", page="pull")
    is_merged = ticket["state"] == "closed" and dice.chance(0.8)
    branch = f"{dice.pick(('fix', 'feature', 'docs'))}/{dice.token(6, HEX)}"
    return {
        "id": next_id(dice, account, "pull request", first=1_900_000_000),
        "node_id": f"PR_kwDO{dice.token(12)}",
        **ticket,
        "diff_url": f"{ticket['html_url']}.diff",
        "merged_at": ticket["closed_at"] if is_merged else None,
        "merge_commit_sha": dice.token(40, HEX) if is_merged else None,
        "requested_reviewers": [],
        "requested_teams": [],
        "head": {"label": f"{account.slug}:{branch}", "ref": branch, "sha": dice.token(40, HEX)},
        "base": {"label": f"{account.slug}:main", "ref": "main", "sha": dice.token(40, HEX)},
        "auto_merge": None,
        "draft": dice.chance(0.1),
        "merged": is_merged,
        "mergeable": None if is_merged else dice.chance(0.9),
        "merged_by": ticket["user"] if is_merged else None,
        "review_comments": dice.below(12),
        "maintainer_can_modify": False,
        "commits": dice.between(1, 30),
        "additions": dice.below(2_000),
        "deletions": dice.below(800),
        "changed_files": dice.between(1, 60),
    }


def make_comment(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    """Makes a comment on an issue, or on a line of a pull request: the two have different keys."""
    author = reference_of(account.pick("user", dice))
    shared = {
        "user": author,
        "created_at": time_of(life.created_at),
        "updated_at": time_of(life.updated_at),
        "author_association": dice.pick(ASSOCIATIONS),
        "body": words.text(dice, 3),
    }
    comment_id = next_id(dice, account, "comment", first=2_400_000_000)
    if dice.chance(0.6):
        issue = account.pick("issue", dice)
        url = f"{issue['repository_url']}/issues/comments/{comment_id}"
        return {
            "url": url,
            "html_url": f"{issue['html_url']}#issuecomment-{comment_id}",
            "issue_url": issue["url"],
            "id": comment_id,
            "node_id": f"IC_kwDO{dice.token(12)}",
            **shared,
            "reactions": reactions_of(dice, url),
            "performed_via_github_app": None,
        }
    pull_request = account.pick("pull_request", dice)
    url, line = f"{pull_request['repository_url']}/pulls/comments/{comment_id}", dice.between(1, 400)
    return {
        "url": url,
        "html_url": f"{pull_request['html_url']}#discussion_r{comment_id}",
        "pull_request_url": pull_request["url"],
        "pull_request_review_id": next_id(dice, account, "review", first=2_300_000_000),
        "id": comment_id,
        "node_id": f"PRRC_kwDO{dice.token(12)}",
        "diff_hunk": f"@@ -{line},3 +{line},4 @@\n     total = sum(rows)\n+    rows.clear()\n     return total",
        "path": dice.pick(("src/report.py", "lib/export.ex", "docs/größen.md", "web/table.tsx")),
        "commit_id": pull_request["head"]["sha"],
        **shared,
        "position": dice.maybe(0.8, dice.between(1, 40)),
        "line": line,
        "side": dice.pick(("RIGHT", "LEFT")),
        "reactions": reactions_of(dice, url),
        "_links": {"html": {"href": f"{WEB}/{account.slug}"}, "pull_request": {"href": pull_request["url"]}},
    }


def revise_issue(dice: Dice, issue: JsonObject, at: datetime) -> JsonObject:
    """Closes the issue, or opens it again."""
    is_closing = issue["state"] == "open"
    return {
        **issue,
        "closed_at": time_of(at) if is_closing else None,
        "comments": issue["comments"] + 1,
        "state": "closed" if is_closing else "open",
        "state_reason": "completed" if is_closing else "reopened",
        "updated_at": time_of(at),
    }


def revise_pull_request(dice: Dice, pull_request: JsonObject, at: datetime) -> JsonObject:
    """Adds more commits."""
    return {
        **pull_request,
        "additions": pull_request["additions"] + dice.below(200),
        "commits": pull_request["commits"] + 1,
        "head": {**pull_request["head"], "sha": dice.token(40, HEX)},
        "updated_at": time_of(at),
    }


def revise_comment(dice: Dice, comment: JsonObject, at: datetime) -> JsonObject:
    return {**comment, "body": words.text(dice, 2), "updated_at": time_of(at)}
