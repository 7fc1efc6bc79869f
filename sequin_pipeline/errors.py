"""This module defines every error that the pipeline raises on purpose, split by who can act on it.

    PipelineError
    ├── ConfigurationError        fix the environment or the command
    │   └── CatalogError          fix the YAML: carries file and line
    ├── SourceError
    │   ├── SourceUnavailable     try again: the budget of retries is used up
    │   │   └── SourceBusy        try again when the source says, not before
    │   ├── SourceRefused         fix the request: token, address, rights
    │   ├── CursorRefused         fix the position: offers a full refresh
    │   └── SourceFault           the source broke its contract: loop, no JSON, no end
    ├── WarehouseError
    │   ├── WarehouseUnavailable  try again: connection lost, server restarting, lock not had in time
    │   ├── TableRefused          fix the table or the declaration: nothing was written
    │   ├── LedgerRefused         fix where the rows come from, or upgrade
    │   └── RunFenced             another run of the collection is at work; this one wrote nothing more
    ├── TooManyRejects            fix the records or the declaration: everything good has been committed
    └── ProcessEnded              look at what the process said, and start again

Messages are sentences for the person on call: what was being done, with which collection and key, what was expected, what was
found, what to do. No secrets, no whole records. Nothing else belongs here: which status code or SQLSTATE ends in which class is
data in the module that sees it.
"""

from typing import ClassVar


class PipelineError(Exception):
    """This is the root of all errors; `is_retryable` says whether the same call may succeed later without anybody changing anything."""

    is_retryable: ClassVar[bool] = False


class ConfigurationError(PipelineError):
    """An environment variable, an option or an argument is missing or wrong."""


class CatalogError(ConfigurationError):
    """A declaration cannot be used; `origin` is `file:line` of the YAML node, where it is known."""

    def __init__(self, message: str, origin: str | None = None) -> None:
        super().__init__(f"{origin}: {message}" if origin else message)
        self.origin = origin


class SourceError(PipelineError):
    """The source did not give what was asked for."""


class SourceUnavailable(SourceError):
    """The source kept failing in ways that pass by themselves until the budget of time was used up."""

    is_retryable = True


class SourceBusy(SourceUnavailable):
    """The source named a time to come back (`Retry-After`) that a request does not wait for; each one before it would be in vain."""

    is_retryable = False


class SourceRefused(SourceError):
    """The source answered that it will not serve this request (401, 403, 404, 422 and the like)."""


class CursorRefused(SourceError):
    """The source does not accept the cursor that an earlier run stored."""


class SourceFault(SourceError):
    """The source broke its contract, and did so again when it was asked once more."""


class WarehouseError(PipelineError):
    """Postgres did not take what it was given."""


class WarehouseUnavailable(WarehouseError):
    """Postgres could not be reached, or gave up for a reason that passes by itself, until the retries were used up."""

    is_retryable = True


class TableRefused(WarehouseError):
    """The target table cannot hold what is declared, or may not be written."""


class LedgerRefused(WarehouseError):
    """The ledger says that these rows belong elsewhere, or was written by a newer version of the pipeline."""


class RunFenced(WarehouseError):
    """Another live run of the collection has moved its cursor; the batch of this run was not written."""


class TooManyRejects(PipelineError):
    """More records were rejected than the collection allows, after everything good had been committed."""


class ProcessEnded(PipelineError):
    """A process that others rely on has ended without having been asked to."""
