"""What committed merges left behind is kept here: cursors, counts, rejects, fingerprints, and for how long."""
