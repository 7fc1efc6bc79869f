"""This module knows the sandbox's keys: made-up ones, in test mode, of which one belongs to each account."""

import hmac
import re

SANDBOX_KEY = "rk_test_sandbox"
"""This is the key of the first account; those of the others end with their number, as in `rk_test_sandbox_2`."""

_SANDBOX_KEY = re.compile(r"[rs]k_test_sandbox(?:_([2-9]))?")


def account_number(key: str, token: str | None) -> int | None:
    """Returns the number of the account whose key this is, from 1, or None; if there is a `token`, it alone is a key."""
    if token is not None:
        return 1 if hmac.compare_digest(key.encode(), token.encode()) else None
    found = _SANDBOX_KEY.fullmatch(key)
    return int(found[1] or 1) if found else None
