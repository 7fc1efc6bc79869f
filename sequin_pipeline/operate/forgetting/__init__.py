"""This room removes a tenant, a sync or a single record from everything that the pipeline writes."""
