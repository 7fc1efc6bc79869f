"""Pages become rows here: batch, COPY into staging, one merge statement, ledger, commit."""
