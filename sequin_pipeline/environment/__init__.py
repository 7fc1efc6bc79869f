"""What surrounds a process is found here: settings, .env files and the embedded Postgres."""
