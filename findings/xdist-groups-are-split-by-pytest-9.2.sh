#!/usr/bin/env bash
# pytest-xdist 3.8.0 beside pytest 9.2.0: `--dist loadgroup` no longer keeps the tests of an xdist_group on one worker, without a warning.
#
# xdist appends the group to a test's id by setting `_nodeid`; pytest 9.2 reads the id from another attribute, so that the group is lost
# and every test is handed out by itself. Whoever groups tests because they share a server, a port or a login gets several of them.
# With pytest 9.1.1 the group stays together. Until xdist follows: pytest<9.2, and a test that counts the workers of a group.
# Source: xdist/remote.py (pytest_collection_modifyitems) and _pytest/nodes.py (Node.nodeid) of these versions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat >"$folder/test_group.py" <<'PY'
import os
import pytest


@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("number", range(8))
def test_who_runs_it(number):
    with open("workers.txt", "a") as workers:
        workers.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
PY
cd "$folder"
workers_with() {
  venv/bin/pip --disable-pip-version-check install --quiet "pytest==$1" pytest-xdist==3.8.0
  rm -f workers.txt
  venv/bin/python -m pytest -q -n 2 --dist loadgroup test_group.py >/dev/null
  sort -u workers.txt | wc -l
}
before=$(workers_with 9.1.1)
after=$(workers_with 9.2.0)
echo "pytest-xdist 3.8.0, one group of 8 tests, 2 workers: run by $before worker with pytest 9.1.1, by $after with pytest 9.2.0"
test "$before" = 1 && test "$after" = 2
