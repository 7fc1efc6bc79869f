"""Data that nobody would send on purpose, from the bytes of a page over HTTP to what Postgres says stands in the table.

What Postgres can hold is there to the last digit and character; everything else is exactly one reject, and the rest of its page is
there. docs/reliability.md tells it as a table.
"""
