"""This room answers what an operator asks: explanations, dry runs, audits, checks, proposals and models."""
