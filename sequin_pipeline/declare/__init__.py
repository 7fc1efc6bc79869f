"""A defs.yaml is read and validated here, and becomes the values of the catalog."""
