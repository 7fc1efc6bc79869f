"""HTTP as every source speaks it: one client with retries, a pace, and failures in words; it knows no source."""
