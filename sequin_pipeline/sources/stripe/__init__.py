"""This room reads Stripe directly: lists tell what exists, events tell what has changed since."""
