"""This room reads the record on the wire: its envelope, its JSON text and its literals."""
