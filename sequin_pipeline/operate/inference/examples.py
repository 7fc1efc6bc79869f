"""This module shows what a value looks like, for a comment: short, on one line, and nothing that could let somebody in."""

import json
import re
from urllib.parse import urlsplit

import msgspec

MAX_CHARACTERS = 40

_SECRET_KEY = re.compile(
    r"secret|token|passw|credential|authorization|api_?key|access_?key|private|signature|session|cookie|cvc|cvv|ssn|iban|account_?number",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(r"_secret_|^(sk|rk|pk|whsec|xox[a-z]|gh[a-z]|pat|glpat)[-_]|^eyJ|^Bearer |-----BEGIN|AKIA[0-9A-Z]{12}")

HIDDEN = "…"


def example_of(value: bytes, *, steps: tuple[str, ...]) -> str:
    """Returns the JSON text `value`, which stands at `steps`, as far as it may be shown; HIDDEN for a secret.

    Of a URL only scheme and host are shown, since those of invoices and files open for whoever has them; of an e-mail address its
    domain.
    """
    if any(_SECRET_KEY.search(step) for step in steps):
        return HIDDEN
    try:
        shown = json.dumps(_masked(msgspec.json.decode(value)), ensure_ascii=False)
    except (msgspec.DecodeError, RecursionError):
        return HIDDEN
    printable = "".join(letter if letter.isprintable() else "�" for letter in shown)
    return printable if len(printable) <= MAX_CHARACTERS else printable[:MAX_CHARACTERS] + "…"


def _masked(value: object) -> object:
    match value:
        case str():
            return _masked_text(value)
        case dict():
            return {key: HIDDEN if _SECRET_KEY.search(str(key)) else _masked(item) for key, item in value.items()}
        case list():
            return [_masked(item) for item in value]
    return value


def _masked_text(text: str) -> str:
    if _SECRET_TEXT.search(text):
        return HIDDEN
    if "://" in text:
        try:
            address = urlsplit(text)
            return f"{address.scheme}://{address.hostname or ''}/{HIDDEN}"
        except ValueError:
            return HIDDEN
    _, at, domain = text.partition("@")
    if at and " " not in text:
        return f"{HIDDEN}@{domain}"
    return text
