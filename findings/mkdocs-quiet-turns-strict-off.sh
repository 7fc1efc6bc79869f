#!/usr/bin/env bash
# What surprises: `mkdocs build --strict --quiet` ends with status 0 for a site of which `mkdocs build --strict` says "Aborted with 1 warnings
#   in strict mode!" and ends with 1. Strict mode counts the warnings that are logged, and `--quiet` raises the level above them.
# Who meets it: whoever builds documents in CI, and has added --quiet to keep the log short: from then on no broken link fails the build.
# Version: mkdocs 1.6.1.
# Source: mkdocs/commands/build.py (the counter is a handler of the logger), mkdocs/__main__.py (quiet_option sets the logger's level to
#   ERROR); https://www.mkdocs.org/user-guide/cli/#mkdocs-build says of --strict "This will cause the build to abort on any warnings", of
#   --quiet "Silence warnings".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mkdocs==1.6.1
mkdir -p "$folder/site/docs"
cd "$folder/site"
printf 'site_name: quiet\n' > mkdocs.yml
printf '# Home\n\n[a page](renamed.md)\n' > docs/index.md
"$folder/venv/bin/mkdocs" --version | cut -d' ' -f1-3
statuses=""
for options in "--strict" "--strict --quiet"; do
  status=0
  # shellcheck disable=SC2086 # two options
  "$folder/venv/bin/mkdocs" build $options > "$folder/log" 2>&1 || status=$?
  echo "mkdocs build $options: status $status, said: $(grep -E 'WARNING|Aborted' "$folder/log" | tr '\n' ' ')"
  statuses="$statuses $status"
done
test "$statuses" = " 1 0"
