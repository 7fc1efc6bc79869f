"""This room fetches pages ahead, normalizes them together, and hands them to whoever writes them."""
