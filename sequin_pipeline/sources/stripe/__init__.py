"""Stripe read directly: lists for what exists, events for what changed since."""
