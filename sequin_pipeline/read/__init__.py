"""Pages are fetched ahead here, normalized together, and handed to whoever writes them."""
