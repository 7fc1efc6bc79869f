"""This check finds out, for sources that are read account by account, which account each key reaches and what it may read there."""

from collections.abc import Iterator

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.operate.doctor.finding import Finding, Patient, lacking
from sequin_pipeline.operate.doctor.source import PATIENCE, some
from sequin_pipeline.sources.registry import open_source, source_kind
from sequin_pipeline.sources.stripe.api import API_VERSION
from sequin_pipeline.sources.stripe.key_access import KeyAccess
from sequin_pipeline.sources.stripe.source import StripeSource


def accounts(patient: Patient) -> Iterator[Finding]:
    """Yields a finding for each account that a key reaches, and one for what it may not read."""
    declarations = {
        one.provider: one.source for one in patient.collections.values() if source_kind(one.source.kind).reads_accounts
    }
    for provider, declaration in declarations.items():
        if (missing := lacking("keys", provider, declaration, patient)) is not None:
            yield missing
            continue
        try:
            source = open_source(declaration, patient.environment)
        except ConfigurationError as error:
            yield Finding("keys", "problem", f"{provider}: {error}", "the message says what to do")
            continue
        assert isinstance(source, StripeSource)  # noqa: S101 - what KINDS opens for a declaration of accounts
        collection_ids = [one.id for one in patient.collections.values() if one.provider == provider]
        for access in source.key_access(collection_ids, PATIENCE):
            yield from _findings(provider, access, mode=source.identity.stream)


def _findings(provider: str, access: KeyAccess, *, mode: str) -> Iterator[Finding]:
    key = f"{provider}: the key in {access.account.key_variable}"
    of_sync = f"of sync {access.account.name!r}"
    if access.failure is not None:
        yield Finding("keys", "problem", f"{key} {of_sync} reaches nothing: {access.failure}", "the message says what to do")
        return
    if access.readable:
        account = f"account {access.account_id!r}" if access.account_id else "an account that it may not name"
        said = f"{key} reaches {account} {of_sync}{f' in {mode} mode' if mode else ''}, and there {some(list(access.readable))}"
        if access.api_versions:
            said += f"; its own API version is {' and '.join(sorted(access.api_versions))}, and records are read at {API_VERSION}"
        yield Finding("keys", "ok", said)
    if access.refused:
        first = next(iter(access.refused.values()))
        said = f"{key} does not reach {some(list(access.refused))} {of_sync}: {first}"
        fix = "let the key read them and Events, in Stripe's dashboard under Developers, API keys; or do not declare them"
        yield Finding("keys", "problem", said, fix)
