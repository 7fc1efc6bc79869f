"""`make matrix`: the tests that a version of Python or Postgres can change, on each of them, told in docs/reliability.md."""
