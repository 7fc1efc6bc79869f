"""This module keeps the queries of addresses out of what the HTTP library logs: a parameter may be a key."""

import logging
from functools import cache

import httpx2


class _WithoutQueries(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                argument.copy_with(query=None) if isinstance(argument, httpx2.URL) else argument for argument in record.args
            )
        return True


@cache
def keep_queries_out() -> None:
    """Lets the library log addresses without their queries, from now on."""
    logging.getLogger("httpx2").addFilter(_WithoutQueries())
