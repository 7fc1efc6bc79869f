"""Record pages of an API, merged into Postgres tables by Dagster."""
