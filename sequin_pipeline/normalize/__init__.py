"""Pages of bytes become a DataFrame and rejects here; nothing in this room knows Postgres or HTTP."""
