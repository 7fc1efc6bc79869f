"""This part of the sandbox serves the population's Stripe accounts as the Stripe API does: lists, objects, events."""
