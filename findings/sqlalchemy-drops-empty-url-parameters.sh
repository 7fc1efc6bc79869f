#!/usr/bin/env bash
# An empty parameter of a Postgres URL means something to libpq, and SQLAlchemy drops it on the way.
#
# `hostaddr=` in a libpq URL says: no address, not even the one of PGHOSTADDR or of the service in PGSERVICE. psycopg2, given the URL,
# goes to the socket that it names. SQLAlchemy, given the same URL, hands on no `hostaddr`, libpq looks into the environment, and the
# connection goes to the other server. A libpq URL within `dsn=` comes through whole.
# Who meets it: whoever closes a URL against libpq's environment, or empties `options=` or `require_auth=`, and uses an ORM or Dagster.
# Versions: SQLAlchemy 2.1.9, psycopg2-binary 2.9.13. Source: sqlalchemy.engine.url.make_url (parse_qsl without blank values).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check sqlalchemy==2.1.9 psycopg2-binary==2.9.13
PGHOSTADDR=127.0.0.77 FOLDER=$folder "$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
from urllib.parse import quote

import psycopg2
import sqlalchemy

print("SQLAlchemy", sqlalchemy.__version__, "psycopg2", psycopg2.__version__)
url = f"postgresql://me@/db?host={os.environ['FOLDER']}&port=1&hostaddr="


def goes_to(connect):
    try:
        connect()
    except Exception as error:
        return "the socket" if "on socket" in str(error) else "PGHOSTADDR" if "127.0.0.77" in str(error) else str(error)


def through(sqlalchemy_url):
    return goes_to(lambda: sqlalchemy.create_engine(sqlalchemy_url).connect())


found = {
    "psycopg2 with the URL": goes_to(lambda: psycopg2.connect(url)),
    "SQLAlchemy with the URL": through(url.replace("postgresql:", "postgresql+psycopg2:", 1)),
    "SQLAlchemy with the URL in dsn=": through("postgresql+psycopg2:///?dsn=" + quote(url, safe="")),
}
for how, where in found.items():
    print(f"{how} goes to {where}")
sys.exit(list(found.values()) != ["the socket", "PGHOSTADDR", "the socket"])
PYTHON
