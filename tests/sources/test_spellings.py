"""A secret is in no excerpt of what a server says, however the server writes it."""

import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import httpx2
import pytest

from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.spellings import masked

WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "JSON": json.dumps,
    "JSON of PHP": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON of Go": lambda text: json.dumps(text).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003E"),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"said": text})),
    "a path": quote,
    "part of a path": lambda text: quote(text, safe=""),
    "lower case in an address": lambda text: "".join(
        f"%{byte:02x}" if byte in b"/+=&% " else chr(byte) for byte in text.encode()
    ),
    "a form": quote_plus,
    "the address that is sent": lambda text: str(httpx2.URL("https://api.test", params={"key": text})),
    "an address in an address": lambda text: quote(quote(text, safe=""), safe=""),
    "HTML": html.escape,
    "Python": lambda text: repr(text)[1:-1],
}


@pytest.mark.parametrize("write", [pytest.param(write, id=name) for name, write in WRITTEN.items()])
@pytest.mark.parametrize("secret", ["aa+Bb/c=7Q", "p&ss <w%41>x'y", 'q"uo\\te/77', "a b/c", "hunter2"])
def test_secret_is_masked_in_every_spelling(secret: str, write: Callable[[str], str]) -> None:
    assert masked(write(f"before {secret} after"), [secret]) == write("before *** after").replace("%2A", "*").replace(
        "%252A", "*"
    )


@pytest.mark.parametrize("write", [pytest.param(write, id=name) for name, write in WRITTEN.items()])
def test_excerpt_of_what_a_server_says_holds_no_spelling_of_a_secret(write: Callable[[str], str]) -> None:
    said = Endpoint("https://api.test", "aa+Bb/c=7Q", secrets=("x/y&z",)).excerpt(write("aa+Bb/c=7Q x/y&z"))

    assert said.count("***") == 2
    assert not any(part in said for part in ("7Q", "Bb"))


@pytest.mark.parametrize("said", ["\\" * 65_536, "%25" * 20_000, "a" * 65_536], ids=["backslashes", "percent signs", "letters"])
def test_masking_what_only_begins_like_a_secret_takes_no_time(said: str) -> None:
    begun = time.monotonic()

    assert masked(said, ["/=secret", "\\secret", "a" * 40 + "!"]) == said
    assert time.monotonic() - begun < 5
