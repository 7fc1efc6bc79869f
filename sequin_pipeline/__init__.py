"""This package merges record pages of an API into Postgres tables, by Dagster."""
