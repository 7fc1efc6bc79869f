"""What the documents say of the code is compared with the code."""
