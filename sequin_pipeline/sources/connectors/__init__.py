"""This package runs connectors of others as child processes, and reads what they say: Airbyte's protocol and Singer's."""
