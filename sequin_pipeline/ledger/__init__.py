"""This room keeps what committed merges left behind: cursors, counts, rejects, fingerprints, and for how long."""
