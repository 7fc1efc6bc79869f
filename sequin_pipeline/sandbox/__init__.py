"""The sandbox is a faithful server of the records API on loopback, for development and tests, with faults on demand."""
