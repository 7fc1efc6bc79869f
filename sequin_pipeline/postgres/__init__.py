"""Connections to Postgres, their URLs and the bytes of COPY stand here; nothing in this room knows a collection."""
