"""This module has the exception by which a merge says that a row of its batch was refused."""

import psycopg


class RowsRefused(Exception):
    """Postgres refused some row of the batch: which one is to be found.

    `error` None: it said nothing, and left the row out, which stands now as `standing` says.
    """

    def __init__(self, error: psycopg.Error | None, *, standing: str = "") -> None:
        super().__init__(str(error or "a row was left out"))
        self.error = error
        self.standing = standing

    @property
    def is_conflict(self) -> bool:
        """This is true where another row holds a value that this one takes (a unique or an exclusion constraint)."""
        return self.error is not None and self.error.sqlstate in ("23505", "23P01")

    @property
    def waits_for_another(self) -> bool:
        """This is true where another row stands in the way, or is missing.

        The same row may pass once that one has been merged.
        """
        return self.is_conflict or (self.error is not None and self.error.sqlstate == "23503")
