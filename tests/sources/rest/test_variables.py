"""What the environment holds stands in requests where the declaration names it, and in no message."""

from dataclasses import replace

import pytest
from starlette.responses import JSONResponse

from sequin_pipeline.catalog import SourceDeclaration
from sequin_pipeline.errors import SourceRefused
from sequin_pipeline.reads import Read, RestApi, Variable
from sequin_pipeline.sources import ReadRequest
from sequin_pipeline.sources.registry import missing_variables, open_source
from tests.sources.rest.reading import LIST, PAGE_NUMBER
from tests.support.rest_api import FakeRest, fake_rest

SECRET = "query-secret-5K"
KEYED = replace(LIST, params={"since": "{since}", "org": Variable("ORG"), "limit": 2})
POSTED = replace(LIST, method="POST", params={}, json={"since": "{since}", "only": [{"org": Variable("ORG")}]})
CHANGED = replace(LIST, changes=replace(LIST, params={"since": "{since}", "org": Variable("ORG")}))
NEEDED = {"API_URL": "http://127.0.0.1:1", "ORG": SECRET}


def declared(read: Read, base_url: str | Variable) -> SourceDeclaration:
    return SourceDeclaration("rest", rest=RestApi(base_url, {"thing": read}, paginator=PAGE_NUMBER))


@pytest.mark.parametrize("read", [KEYED, POSTED, CHANGED], ids=["parameter", "body", "changes"])
def test_a_variable_of_a_request_is_needed(read: Read) -> None:
    assert missing_variables(declared(read, "http://127.0.0.1:1"), {}) == ("ORG",)


def test_an_address_with_a_default_is_not_needed_and_the_environment_goes_before_it() -> None:
    declaration = declared(LIST, Variable("API_URL", "https://api.example"))

    assert missing_variables(declaration, {}) == ()
    assert open_source(declaration, {}).identity.base_url == "https://api.example"
    assert open_source(declaration, NEEDED).identity.base_url == "http://127.0.0.1:1"


@pytest.mark.parametrize(("read", "sent"), [(KEYED, "query"), (POSTED, "content")], ids=["parameter", "body"])
def test_what_a_variable_holds_is_sent_and_not_shown(read: Read, sent: str) -> None:
    with fake_rest() as fake:
        fake.instead["/api/things"] = refusing
        source = open_source(declared(read, fake.base_url), {"ORG": SECRET})

        with pytest.raises(SourceRefused) as refused:
            list(source.pages(ReadRequest(frozenset({"demo:thing"}))))

    assert SECRET in str(getattr(fake.asked[0], sent))
    assert SECRET not in str(refused.value)


def refusing(asked: object) -> JSONResponse:
    return JSONResponse({"message": f"not for {SECRET}"}, 403)


def test_a_variable_of_a_parameter_bounds_what_comes() -> None:
    with fake_rest() as fake:
        filled(fake)
        source = open_source(declared(KEYED, fake.base_url), {"ORG": "b"})

        pages = list(source.pages(ReadRequest(frozenset({"demo:thing"}))))

    records = b"".join(page.records for page in pages)
    assert (b'"t0"' in records, b'"t1"' in records) == (False, True)


def filled(fake: FakeRest) -> None:
    fake.put("t0", org="a")
    fake.put("t1", org="b")
