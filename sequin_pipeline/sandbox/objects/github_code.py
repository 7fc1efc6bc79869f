"""This module makes GitHub's users, repositories and releases, and what all its objects have in common.

Ids are integers, many beyond 32 bits; times are to the second.
"""

from datetime import datetime, timedelta

from sequin_pipeline.sandbox.dice import HEX, Dice
from sequin_pipeline.sandbox.objects import JsonObject, Lifetime, words
from sequin_pipeline.sandbox.objects.account import Account

API = "https://api.github.example"
WEB = "https://github.example"
PUBLIC_USERS = 24
"""This many users of every account are the same people, with the same ids: upstream ids repeat across syncs."""


def time_of(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def next_id(dice: Dice, account: Account, sequence: str, *, first: int) -> int:
    """Counts up with gaps, as numbers that all of GitHub shares do."""
    return first + account.next_serial(f"{sequence} id") * 100_000 + dice.below(100_000)


def reference_of(user: JsonObject) -> JsonObject:
    """Returns a user as it stands inside other objects."""
    keys = ("login", "id", "node_id", "avatar_url", "url", "html_url", "type", "site_admin")
    return {key: user[key] for key in keys}


def reactions_of(dice: Dice, url: str) -> JsonObject:
    likes, hearts = dice.below(9), dice.below(3)
    return {
        "url": f"{url}/reactions",
        "total_count": likes + hearts,
        "+1": likes,
        "-1": 0,
        "laugh": 0,
        "heart": hearts,
        "eyes": 0,
    }


def make_user(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    serial = account.next_serial("user")
    own = Dice("public user", serial) if serial <= PUBLIC_USERS else dice
    first, last = words.person(own)
    login = f"{own.token(5, 'abcdefghijklmnopqrstuvwxyz')}-{own.token(3, HEX)}"
    user_id = own.between(10_000, 200_000_000) if serial <= PUBLIC_USERS else next_id(dice, account, "user", first=210_000_000)
    city, *_ = own.pick(words.PLACES)
    is_bot = own.chance(0.05)
    url = f"{API}/users/{login}"
    return {
        "login": login,
        "id": user_id,
        "node_id": f"U_kgDO{own.token(6)}",
        "avatar_url": f"https://avatars.github.example/u/{user_id}?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{WEB}/{login}",
        "followers_url": f"{url}/followers",
        "following_url": f"{url}/following{{/other_user}}",
        "gists_url": f"{url}/gists{{/gist_id}}",
        "organizations_url": f"{url}/orgs",
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events{{/privacy}}",
        "received_events_url": f"{url}/received_events",
        "type": "Bot" if is_bot else "User",
        "site_admin": False,
        "name": f"{first} {last}",
        "company": own.maybe(0.5, words.company(own)),
        "blog": own.pick(("", f"https://{words.domain(own)}")),
        "location": own.maybe(0.7, city),
        "email": own.maybe(0.4, words.email(own)),
        "hireable": own.pick((True, None)),
        "bio": own.maybe(0.6, words.text(own, 2)),
        "public_repos": dice.below(120),
        "public_gists": dice.below(30),
        "followers": dice.below(4_000),
        "following": dice.below(200),
        "created_at": time_of(life.created_at - timedelta(days=own.between(100, 4_000))),
        "updated_at": time_of(life.updated_at),
    }


def make_repository(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    serial = account.next_serial("repository")
    name = f"{dice.pick(words.COMPANY_HEADS)}-{dice.pick(('api', 'web', 'docs', 'jobs', 'cli'))}-{serial}".lower()
    full_name, is_private = f"{account.slug}/{name}", dice.chance(0.4)
    owner_id = 90_000_000 + len(account.slug) * 7_919
    url = f"{API}/repos/{full_name}"
    return {
        "id": next_id(dice, account, "repository", first=700_000_000),
        "node_id": f"R_kgDO{dice.token(6)}",
        "name": name,
        "full_name": full_name,
        "private": is_private,
        "owner": {
            "login": account.slug,
            "id": owner_id,
            "node_id": f"O_kgDO{owner_id:x}",
            "avatar_url": f"https://avatars.github.example/u/{owner_id}?v=4",
            "url": f"{API}/users/{account.slug}",
            "html_url": f"{WEB}/{account.slug}",
            "type": "Organization",
            "site_admin": False,
        },
        "html_url": f"{WEB}/{full_name}",
        "description": dice.maybe(0.8, words.text(dice, 1)),
        "fork": dice.chance(0.1),
        "url": url,
        "issues_url": f"{url}/issues{{/number}}",
        "pulls_url": f"{url}/pulls{{/number}}",
        "created_at": time_of(life.created_at),
        "updated_at": time_of(life.updated_at),
        "pushed_at": time_of(life.updated_at - timedelta(minutes=dice.below(600))),
        "clone_url": f"{WEB}/{full_name}.git",
        "homepage": dice.pick((None, "", f"https://{words.domain(dice)}")),
        "size": dice.below(90_000),
        "stargazers_count": dice.below(5_000),
        "watchers_count": dice.below(5_000),
        "language": dice.pick(("Python", "TypeScript", "Go", "Elixir", None)),
        "has_issues": True,
        "has_wiki": dice.chance(0.5),
        "forks_count": dice.below(400),
        "archived": dice.chance(0.05),
        "disabled": False,
        "open_issues_count": dice.below(200),
        "license": dice.maybe(0.6, {"key": "mit", "name": "MIT License", "spdx_id": "MIT", "url": f"{API}/licenses/mit"}),
        "allow_forking": True,
        "is_template": False,
        "topics": [topic for topic in ("etl", "billing", "postgres", "dashboard") if dice.chance(0.4)],
        "visibility": "private" if is_private else "public",
        "default_branch": dice.pick(("main", "main", "master")),
    }


def make_release(dice: Dice, account: Account, life: Lifetime) -> JsonObject:
    repository, author = account.pick("repository", dice), account.pick("user", dice)
    release_id, is_draft = next_id(dice, account, "release", first=140_000_000), dice.chance(0.05)
    tag = f"v{dice.below(4)}.{dice.below(20)}.{account.next_serial('tag')}"
    asset = {
        "id": next_id(dice, account, "asset", first=120_000_000),
        "name": f"{repository['name']}-{tag}.tar.gz",
        "content_type": "application/gzip",
        "state": "uploaded",
        "size": dice.between(10_000, 90_000_000),
        "download_count": dice.below(9_000),
    }
    url = f"{repository['url']}/releases/{release_id}"
    return {
        "url": url,
        "assets_url": f"{url}/assets",
        "html_url": f"{repository['html_url']}/releases/tag/{tag}",
        "id": release_id,
        "author": reference_of(author),
        "node_id": f"RE_kwDO{dice.token(12)}",
        "tag_name": tag,
        "target_commitish": repository["default_branch"],
        "name": dice.maybe(0.8, f"Release {tag}"),
        "draft": is_draft,
        "prerelease": dice.chance(0.15),
        "created_at": time_of(life.created_at),
        "published_at": None if is_draft else time_of(life.created_at + timedelta(minutes=5)),
        "assets": [asset] if dice.chance(0.7) else [],
        "tarball_url": f"{repository['url']}/tarball/{tag}",
        "zipball_url": f"{repository['url']}/zipball/{tag}",
        "body": dice.maybe(0.9, "## Changes\n\n* " + "\n* ".join(words.text(dice, 1) for _ in range(3))),
        "reactions": reactions_of(dice, url),
    }


def revise_user(dice: Dice, user: JsonObject, at: datetime) -> JsonObject:
    return {**user, "followers": user["followers"] + dice.between(1, 20), "bio": words.text(dice, 1), "updated_at": time_of(at)}


def revise_repository(dice: Dice, repository: JsonObject, at: datetime) -> JsonObject:
    return {
        **repository,
        "pushed_at": time_of(at),
        "size": repository["size"] + dice.below(500),
        "stargazers_count": repository["stargazers_count"] + dice.below(5),
        "updated_at": time_of(at),
    }


def revise_release(dice: Dice, release: JsonObject, at: datetime) -> JsonObject:
    """Writes the note anew; releases have no `updated_at`."""
    published_at = release["published_at"] or time_of(at)
    return {**release, "body": words.text(dice, 3), "draft": False, "published_at": published_at}
