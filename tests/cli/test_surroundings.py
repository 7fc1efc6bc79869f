"""Which variables of the environment, or of .env, a command hands on to the processes that read sources."""

import pytest

from sequin_pipeline.catalog import Collection, SourceAccount, SourceDeclaration
from sequin_pipeline.cli.surroundings import check_sources
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.operate.inference.rest_keys import collection_of_preset
from sequin_pipeline.operate.inference.sample import bare_collection

STRIPE = bare_collection("stripe", "plan", SourceDeclaration("stripe", (SourceAccount("default", "STRIPE_API_KEY"),)))
GITHUB = {"GITHUB_TOKEN": "t", "GITHUB_REPOSITORIES": "o/a"}


def preset(provider: str, name: str) -> Collection:
    collection = collection_of_preset(provider, name)
    assert collection is not None
    return collection


@pytest.mark.parametrize(
    ("collection", "given", "handed_on"),
    [
        (preset("github", "issue"), GITHUB, {*GITHUB}),
        (preset("github", "issue"), {**GITHUB, "GITHUB_API_URL": "http://127.0.0.1:1"}, {*GITHUB, "GITHUB_API_URL"}),
        (preset("github", "repository"), {**GITHUB, "GITHUB_API_URL": " "}, {"GITHUB_TOKEN"}),
        (STRIPE, {"STRIPE_API_KEY": "k", "STRIPE_API_URL": "http://127.0.0.1:1"}, {"STRIPE_API_KEY", "STRIPE_API_URL"}),
        (STRIPE, {"STRIPE_API_KEY": "k"}, {"STRIPE_API_KEY"}),
    ],
    ids=["what is needed", "an address too", "an empty address", "stripe with an address", "stripe"],
)
def test_what_a_source_needs_and_what_it_heeds_is_handed_on(
    collection: Collection, given: dict[str, str], handed_on: set[str]
) -> None:
    assert check_sources([collection], given) == (False, handed_on)


def test_a_missing_variable_of_a_preset_is_named() -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_sources([preset("github", "issue")], {"GITHUB_TOKEN": "t"})

    assert str(refused.value) == (
        "provider 'github' is read from source 'rest', which needs GITHUB_REPOSITORIES: set it in the environment or in .env"
    )


def test_several_missing_variables_are_named_together() -> None:
    with pytest.raises(
        ConfigurationError, match=r"needs GITHUB_TOKEN and GITHUB_REPOSITORIES: set them in the environment or in \.env$"
    ):
        check_sources([preset("github", "issue")], {})


@pytest.mark.parametrize(
    ("asked", "others"),
    [
        (preset("github", "issue"), [STRIPE]),
        (STRIPE, [preset("github", "issue"), preset("hubspot", "deal")]),
        (preset("hubspot", "deal"), [STRIPE, preset("salesforce", "account")]),
    ],
    ids=["beside stripe", "beside two presets", "beside stripe and a preset"],
)
def test_only_the_sources_of_what_is_asked_for_need_their_variables(asked: Collection, others: list[Collection]) -> None:
    given = {**GITHUB, "STRIPE_API_KEY": "k", "HUBSPOT_TOKEN": "h"}
    needed = {
        "github": {"GITHUB_TOKEN", "GITHUB_REPOSITORIES"},
        "stripe": {"STRIPE_API_KEY"},
        "hubspot": {"HUBSPOT_TOKEN"},
    }[asked.provider]
    held = {name: value for name, value in given.items() if name in needed}

    assert check_sources([*others, asked], held, asked=(asked,)) == (False, needed)
    with pytest.raises(ConfigurationError, match=r"which needs .*: set (it|them) in the environment"):
        check_sources([*others, asked], held)
