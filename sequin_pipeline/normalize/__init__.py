"""This room turns pages of bytes into a DataFrame and rejects; nothing in it knows Postgres or HTTP."""
