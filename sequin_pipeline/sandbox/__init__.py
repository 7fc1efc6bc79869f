"""The sandbox is a faithful server of the records API, and of Stripe's, on loopback, for development and tests, with faults on demand."""
