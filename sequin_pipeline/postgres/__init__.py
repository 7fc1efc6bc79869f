"""This room holds connections to Postgres, their URLs and the bytes of COPY; nothing in it knows a collection."""
