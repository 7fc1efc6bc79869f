"""The locks for images: what a run needs and nothing else, in the versions that the tests ran with, as pip takes it."""

import re
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.checkout import CHECKOUT

PINNED = re.compile(r"^(?P<name>[A-Za-z0-9_.-]+)(?:\[(?P<extras>[^\]]+)\])?==(?P<version>[^ ;\\]+)", re.MULTILINE)


def pins(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and extras of each package of a lock."""
    found = PINNED.finditer((CHECKOUT / name).read_text(encoding="utf-8"))
    return {
        canonicalize_name(one["name"]): (one["version"], frozenset(filter(None, (one["extras"] or "").split(","))))
        for one in found
    }


RUNTIME = pins("requirements.runtime.lock")
WITH_ENGINES = pins("deploy/requirements.lock")

locks = pytest.mark.parametrize("lock", [pytest.param(RUNTIME, id="runtime"), pytest.param(WITH_ENGINES, id="engines")])
Lock = dict[str, tuple[str, frozenset[str]]]


@locks
def test_it_holds_the_versions_that_the_tests_ran_with(lock: Lock) -> None:
    tested = {
        name: version for name, (version, _) in {**pins("tests/deploy/requirements.lock"), **pins("requirements.lock")}.items()
    }

    assert len(lock) > 60
    assert {name: version for name, (version, _) in lock.items() if tested.get(name) != version} == {}


def test_the_engines_are_of_the_release_of_the_locked_dagster() -> None:
    """Dagster's libraries pin the core's exact version, and count their own from another number."""
    (version, _), *engines = (WITH_ENGINES[name] for name in ("dagster-postgres", "dagster-celery", "dagster-k8s"))

    assert {engine for engine, _ in engines} == {version}


@locks
@pytest.mark.parametrize("tool", ["pytest", "mypy", "playwright", "ruff", "hypothesis"])
def test_it_holds_no_tool_of_development(lock: Lock, tool: str) -> None:
    assert tool in pins("requirements.lock")
    assert tool not in lock


@locks
def test_each_extra_that_a_package_asks_for_is_pinned_as_pip_demands(lock: Lock) -> None:
    """In --require-hashes mode pip refuses `gql[requests]` where the lock says `gql==4.0.0`."""
    lacking = {
        f"{name} asks for {wanted.name}[{','.join(sorted(wanted.extras))}]"
        for name, (_, extras) in lock.items()
        for wanted in requirements_of(name, extras)
        if canonicalize_name(wanted.name) in lock and not wanted.extras <= lock[canonicalize_name(wanted.name)][1]
    }

    assert lacking == set()


def requirements_of(name: str, extras: frozenset[str]) -> list[Requirement]:
    try:
        requires = distribution(name).requires or []
    except PackageNotFoundError:  # for another system or Python than this one
        return []
    wanted = [Requirement(text) for text in requires]
    return [
        one for one in wanted if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (extras or {""}))
    ]
