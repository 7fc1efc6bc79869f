"""This room turns pages into rows: batch, COPY into the table or into staging, one merge statement, ledger, commit."""
