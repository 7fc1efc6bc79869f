"""This room turns pages into rows: batch, COPY into staging, one merge statement, ledger, commit."""
