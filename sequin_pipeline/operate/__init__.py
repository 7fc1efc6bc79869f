"""What an operator asks is answered here: explanations, dry runs, audits, checks, proposals and models."""
