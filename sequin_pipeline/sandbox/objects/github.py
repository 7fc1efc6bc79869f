"""GitHub's objects hold whole users, and refer to each other by address."""

from datetime import datetime

from sequin_pipeline.sandbox.objects import JsonObject, Kind, Provider
from sequin_pipeline.sandbox.objects.github_code import (
    make_release,
    make_repository,
    make_user,
    revise_release,
    revise_repository,
    revise_user,
)
from sequin_pipeline.sandbox.objects.github_work import (
    make_comment,
    make_issue,
    make_pull_request,
    revise_comment,
    revise_issue,
    revise_pull_request,
)


def _as_it_was(deleted: JsonObject, at: datetime) -> JsonObject:
    """Returns what the event of a deletion carries."""
    return deleted


GITHUB = Provider(
    name="github",
    kinds=(
        Kind("user", 300, make_user, revise_user, _as_it_was),
        Kind("repository", 60, make_repository, revise_repository, _as_it_was),
        Kind("release", 240, make_release, revise_release, _as_it_was),
        Kind("issue", 900, make_issue, revise_issue, _as_it_was),
        Kind("pull_request", 600, make_pull_request, revise_pull_request, _as_it_was),
        Kind("comment", 1_080, make_comment, revise_comment, _as_it_was),
    ),
)
