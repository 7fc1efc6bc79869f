"""Addresses and tokens as users write them."""

import re

import pytest

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sources.http.endpoint import Endpoint


@pytest.mark.parametrize(
    ("written", "base_url"),
    [
        pytest.param("https://api.sequin.io", "https://api.sequin.io", id="as documented"),
        pytest.param("https://api.sequin.io/", "https://api.sequin.io", id="trailing slash"),
        pytest.param("https://proxy.test/sequin/", "https://proxy.test/sequin", id="path prefix"),
        pytest.param("HTTPS://API.Sequin.IO:443", "https://api.sequin.io", id="upper case and default port"),
        pytest.param("http://localhost:4000", "http://localhost:4000", id="port"),
        pytest.param("http://[::1]:4000/", "http://[::1]:4000", id="IPv6"),
    ],
)
def test_spellings_of_one_address_are_one_source(written: str, base_url: str) -> None:
    assert Endpoint(written).base_url == base_url


@pytest.mark.parametrize(
    "written",
    ["", "api.sequin.io", "ftp://api.sequin.io", "https://", "http://host:99999", "http://[::1", "http://a b", "/v1"],
)
def test_what_is_no_http_address_is_refused(written: str) -> None:
    message = (
        "SEQUIN_API_URL is not a usable address: "
        "write http:// or https://, a host, and a path if the API is served below one, as in https://api.sequin.io"
    )

    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        Endpoint(written)


@pytest.mark.parametrize("written", ["https://me:hunter2@api.test", "https://hunter2@api.test"])
def test_credentials_in_the_address_are_refused_and_not_shown(written: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Endpoint(written)

    assert str(caught.value) == (
        "SEQUIN_API_URL holds credentials for host 'api.test', which would end up in logs and ledgers: "
        "take them out of the address and set SEQUIN_API_TOKEN"
    )


@pytest.mark.parametrize("written", ["https://api.test/?key=hunter2", "https://api.test#hunter2"])
def test_a_query_in_the_address_is_refused_and_not_shown(written: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Endpoint(written)

    assert str(caught.value) == (
        "SEQUIN_API_URL for host 'api.test' has a query or a fragment, which a base address cannot have: take it out"
    )


@pytest.mark.parametrize("token", ["hunter2\n", " hunter2", "hunt\u00e9r2", "hun\x00ter2"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Endpoint("https://api.test", token)

    assert str(caught.value) == (
        "the token in SEQUIN_API_TOKEN cannot be sent in a header: "
        "it must be printable ASCII without space around it; look for a line break at its end"
    )


def test_neither_repr_nor_excerpt_shows_the_token() -> None:
    endpoint = Endpoint("https://api.test", "hunter2")

    assert "hunter2" not in repr(endpoint)
    assert endpoint.excerpt("no such key:\n hunter2 " + "x" * 100) == "'no such key: *** " + "x" * 63 + "…'"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]", "http://localhost"],
)
def test_this_machine_is_loopback(url: str) -> None:
    assert Endpoint(url).is_loopback


@pytest.mark.parametrize("url", ["http://10.0.0.1", "https://api.test", "https://localhost.test"])
def test_the_network_is_not_loopback(url: str) -> None:
    assert not Endpoint(url).is_loopback
