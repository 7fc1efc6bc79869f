"""This room speaks HTTP for every source: one client with retries, a pace, and failures in words; it knows no source."""
