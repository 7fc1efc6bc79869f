"""The record on the wire is read here: its envelope, its JSON text and its literals."""
