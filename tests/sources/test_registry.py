"""The kinds of sources that a defs.yaml can name: all there, opened from the environment, and refused when it lacks something."""

from typing import get_args

import pytest

from sequin_pipeline.catalog import Queue, SourceAccount, SourceDeclaration, SourceKindName
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.registry import KINDS, open_source


def test_every_name_that_can_be_declared_is_a_kind() -> None:
    assert set(KINDS) == set(get_args(SourceKindName))


@pytest.mark.parametrize(
    ("url", "token"),
    [("https://api.example", {"SEQUIN_API_TOKEN": "secret"}), ("http://127.0.0.1:8000", {})],
    ids=["with a token", "the sandbox, without one"],
)
def test_the_records_api_is_opened_with_a_token_and_the_sandbox_without(url: str, token: dict[str, str]) -> None:
    source = open_source(SourceDeclaration("sequin"), {"SEQUIN_API_URL": f"{url}/", **token})

    assert source.identity == SourceIdentity("sequin", url)
    assert (source.can_reread, source.observes_time) == (True, False)
    assert "secret" not in repr(source)


CONSUMER, STREAM = (SourceDeclaration(kind, queue=Queue("c1")) for kind in ("sequin_consumer", "sequin_stream"))


@pytest.mark.parametrize(
    ("declaration", "environment", "missing"),
    [
        (SourceDeclaration("sequin"), {}, "SEQUIN_API_URL"),
        (SourceDeclaration("sequin"), {"SEQUIN_API_URL": " ", "SEQUIN_API_TOKEN": "t"}, "SEQUIN_API_URL"),
        (SourceDeclaration("sequin"), {"SEQUIN_API_URL": "https://api.example"}, "SEQUIN_API_TOKEN"),
        (CONSUMER, {"SEQUIN_API_URL": "https://api.example", "SEQUIN_API_TOKEN": " "}, "SEQUIN_API_TOKEN"),
        (STREAM, {}, "SEQUIN_STREAM_URL and SEQUIN_STREAM_TOKEN"),
    ],
    ids=["nothing", "an empty address", "no token", "a consumer with an empty token", "a stream with nothing"],
)
def test_a_missing_variable_is_named_before_anything_is_sent(
    declaration: SourceDeclaration, environment: dict[str, str], missing: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_source(declaration, environment)

    assert str(refused.value) == (
        f"source {declaration.kind!r} needs {missing}, which the environment does not have: set it, or name another source in the "
        "defs.yaml"
    )


TWO = SourceDeclaration("stripe", (SourceAccount("one", "KEY_ONE"), SourceAccount("two", "KEY_TWO")))


def test_stripe_is_opened_with_a_key_for_each_account() -> None:
    source = open_source(TWO, {"KEY_ONE": "sk_test_1", "KEY_TWO": "rk_test_2"})

    assert source.identity == SourceIdentity("stripe", "https://api.stripe.com", "test")
    assert (source.can_reread, source.observes_time) == (True, True)
    assert "sk_test_1" not in repr(source)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"KEY_ONE": "sk_test_1"}, "source 'stripe' needs KEY_TWO, which the environment does not have"),
        ({"KEY_ONE": "sk_test_1", "KEY_TWO": "sk_live_2"}, "some of the keys for Stripe are of test mode and some of live mode"),
        ({"KEY_ONE": "pk_test_1", "KEY_TWO": "sk_test_2"}, "KEY_ONE does not hold a secret or restricted key of Stripe"),
        ({"KEY_ONE": "sk_test_1\n2", "KEY_TWO": "sk_test_2"}, "the token in KEY_ONE cannot be sent in a header"),
    ],
    ids=["missing", "both modes", "publishable", "line break"],
)
def test_keys_that_cannot_be_used_are_refused_without_being_shown(keys: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_source(TWO, keys)

    assert str(refused.value).startswith(said)
    assert not any(key in str(refused.value) for key in keys.values())
