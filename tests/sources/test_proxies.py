"""Proxies that the environment names: one that cannot be used is told in words, and never taken for an error of the program."""

import pytest

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sources.http.client import HttpClient, HttpOptions
from sequin_pipeline.sources.http.endpoint import Endpoint


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "ftp"])
def test_a_proxy_that_does_not_speak_http_is_refused_in_words(
    variable: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"{scheme}://you:hush@proxy.example:1080")

    with pytest.raises(ConfigurationError) as refused:
        HttpClient(Endpoint("https://api.example"), HttpOptions())

    assert str(refused.value) == (
        f"{variable} names a proxy of the scheme {scheme!r}, and only proxies with http:// or https:// can be used: name such a one, or "
        "unset the variable"
    )


@pytest.mark.parametrize("proxy", ["http://proxy.example:3128", "https://proxy.example", "proxy.example:3128"])
def test_a_proxy_that_speaks_http_is_taken(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    HttpClient(Endpoint("https://api.example"), HttpOptions()).close()


def test_what_listens_on_this_machine_needs_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example")

    HttpClient(Endpoint("http://127.0.0.1:9"), HttpOptions()).close()
