"""This room reads and validates a defs.yaml and turns it into the values of the catalog."""
