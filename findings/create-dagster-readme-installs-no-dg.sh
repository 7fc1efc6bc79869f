#!/usr/bin/env bash
# What surprises: the README that create-dagster writes into a new project says `pip install -e ".[dev]"`, but the project's pyproject.toml
#   has `dev` as a dependency group, which is no extra. pip warns in one line among hundreds, installs Dagster without `dg` and without the
#   webserver, and ends with status 0; the README's next command, `dg dev`, is not found.
# Who meets it: whoever follows the README with pip instead of uv.
# Version: create-dagster 1.13.27.
# Source: https://github.com/dagster-io/dagster/pull/32688 corrected the same in Dagster's documentation, not in the template.
# Instead: `pip install -e . --group dev` (pip 25.1 and later), or name dagster-dg-cli and dagster-webserver.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check create-dagster==1.13.27
cd "$folder"
mkdir home && echo 'telemetry: {enabled: false}' > home/dagster.yaml
DAGSTER_HOME=$folder/home DAGSTER_DG_UPDATE_CHECK_ENABLED=0 venv/bin/create-dagster project demo --no-uv-sync > scaffolded 2>&1
cd demo
printed=$(grep -o 'pip install -e .*' README.md)
venv=$folder/venv
report=$("$venv/bin/pip" install --disable-pip-version-check --dry-run --ignore-installed -e ".[dev]" 2>&1)
warning=$(grep -o 'demo .* does not provide the extra .*' <<< "$report")
would=$(grep '^Would install' <<< "$report")
tools=$(grep -oE 'dagster-(dg-cli|webserver)' <<< "$would" || true)
echo "create-dagster 1.13.27; its README says: $printed"
sed -n '/dependency-groups/,/^\]/p' pyproject.toml
echo "pip: $warning"
echo "of dagster-dg-cli and dagster-webserver pip would install: ${tools:-none}"
if [ "$printed" = 'pip install -e ".[dev]"' ] && [ -n "$warning" ] && [ -z "$tools" ]; then echo "as described"; else echo "behaves otherwise now"; exit 1; fi
