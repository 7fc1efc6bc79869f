"""The list of a repository's issues as GitHub gives it, on loopback: pages with links, `since`, rate headers, and refusals."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from tests.support.altering_proxy import AlteringProxy, Answer, Asked, serving

TOKEN = "ghs-issues-3V"
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class IssuesApi:
    """Issues by repository; one that is not there answers 404, as one that the token may not see."""

    issues: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    left: int = 5000
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def put(self, repository: str, number: int, **values: Any) -> None:
        """Writes an issue whose change is `number` days after the first."""
        at = f"{START + timedelta(days=number):%Y-%m-%dT%H:%M:%SZ}"
        issue = {"id": number, "number": number, "title": f"issue {number}", "updated_at": at, "created_at": at, **values}
        known = [one for one in self.issues.get(repository, []) if one["id"] != issue["id"]]
        self.issues[repository] = sorted([*known, issue], key=lambda one: str(one.get("updated_at")))

    def answer(self, proxy: AlteringProxy, asked: Asked) -> Answer:
        self.left -= 1
        self.asked.append(asked)
        headers = {"X-RateLimit-Remaining": str(self.left), "X-RateLimit-Reset": "4102444800", "Content-Type": "application/json"}
        repository = asked.path.removeprefix("/repos/").removesuffix("/issues")
        if proxy.headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, headers, b'{"message": "Bad credentials"}'
        if repository not in self.issues:
            return 404, headers, b'{"message": "Not Found"}'
        found = [one for one in self.issues[repository] if str(one.get("updated_at")) >= asked.params.get("since", "")]
        size, page = int(asked.params.get("per_page", 30)), int(asked.params.get("page", 1))
        if page * size < len(found):
            headers["Link"] = f'<{self.url}{asked.path}?{urlencode({**asked.params, "page": page + 1})}>; rel="next"'
        return 200, headers, json.dumps(found[(page - 1) * size : page * size]).encode()


@contextmanager
def serving_issues() -> Iterator[IssuesApi]:
    """The API at its `url` until the end of the block."""
    api = IssuesApi()
    with serving(AlteringProxy("", answer=api.answer)) as proxy:
        api.url = proxy.url
        yield api
