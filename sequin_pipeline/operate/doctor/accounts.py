"""Sources that are read account by account: which key reaches which account, and what of the declared collections there?"""

from collections.abc import Iterator

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.operate.doctor.source import PATIENCE, some
from sequin_pipeline.sources.registry import KINDS, missing_variables, open_source
from sequin_pipeline.sources.stripe.api import API_VERSION
from sequin_pipeline.sources.stripe.reach import Reach
from sequin_pipeline.sources.stripe.source import StripeSource


def accounts(patient: Patient) -> Iterator[Finding]:
    """A finding for each account that a key reaches, and one for what it does not reach."""
    declarations = {one.provider: one.source for one in patient.collections.values() if KINDS[one.source.kind].reads_accounts}
    for provider, declaration in declarations.items():
        missing = missing_variables(declaration, patient.environment)
        if missing:
            said = f"{provider} is read from {declaration.kind}, which needs {' and '.join(missing)}"
            yield Finding("keys", "problem", said, "set it in the environment or in .env")
            continue
        try:
            source = open_source(declaration, patient.environment)
        except ConfigurationError as error:
            yield Finding("keys", "problem", f"{provider}: {error}", "the sentence says what to do")
            continue
        assert isinstance(source, StripeSource)  # noqa: S101 - what KINDS opens for a declaration of accounts
        collection_ids = [one.id for one in patient.collections.values() if one.provider == provider]
        for reach in source.reach(collection_ids, PATIENCE):
            yield from _findings(provider, reach, mode=source.identity.stream)


def _findings(provider: str, reach: Reach, *, mode: str) -> Iterator[Finding]:
    key = f"{provider}: the key in {reach.account.key_variable}"
    of_sync = f"of sync {reach.account.name!r}"
    if reach.failure is not None:
        yield Finding("keys", "problem", f"{key} {of_sync} reaches nothing: {reach.failure}", "the sentence says what to do")
        return
    if reach.readable:
        account = f"account {reach.account_id!r}" if reach.account_id else "an account that it may not name"
        said = f"{key} reaches {account} {of_sync}{f' in {mode} mode' if mode else ''}, and there {some(list(reach.readable))}"
        if reach.api_versions:
            said += f"; its own API version is {' and '.join(sorted(reach.api_versions))}, and records are read at {API_VERSION}"
        yield Finding("keys", "ok", said)
    if reach.refused:
        first = next(iter(reach.refused.values()))
        said = f"{key} does not reach {some(list(reach.refused))} {of_sync}: {first}"
        mend = "let the key read them and Events, in Stripe's dashboard under Developers, API keys; or do not declare them"
        yield Finding("keys", "problem", said, mend)
