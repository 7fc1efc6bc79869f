"""This room finds what surrounds a process: settings, .env files and the embedded Postgres."""
