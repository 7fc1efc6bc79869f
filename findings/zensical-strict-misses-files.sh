#!/usr/bin/env bash
# What surprises: `zensical build --strict` says "No issues found" of a page whose picture is missing, and of a link to a file that is not
#   there: it looks at links to pages and their anchors only. `mkdocs build --strict`, whose configuration and options it takes over, ends
#   with status 1 for the same folder.
# Who meets it: whoever moves a site from MkDocs to Zensical, and trusts the step of CI that used to find renamed pictures and downloads.
# Version: zensical 0.0.73, mkdocs 1.6.1.
# Source: https://zensical.org/docs/setup/validation/ ("validates all internal links at build time"),
#   https://www.mkdocs.org/user-guide/configuration/#validation (not_found: "relative links to missing files").
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check zensical==0.0.73 mkdocs==1.6.1
mkdir -p "$folder/site/docs"
cd "$folder/site"
printf 'site_name: pictures\n' > mkdocs.yml
printf '# Home\n\n![a picture](images/missing.png) and [a file](missing.txt)\n' > docs/index.md
set +e
"$folder/venv/bin/mkdocs" build --strict --site-dir "$folder/by-mkdocs" > "$folder/mkdocs.log" 2>&1
of_mkdocs=$?
"$folder/venv/bin/zensical" build --strict --config-file mkdocs.yml > "$folder/zensical.log" 2>&1
of_zensical=$?
set -e
echo "mkdocs 1.6.1 build --strict: status $of_mkdocs"
grep WARNING "$folder/mkdocs.log" || true
echo "zensical 0.0.73 build --strict: status $of_zensical"
grep "issues found" "$folder/zensical.log" || true
grep -o '\(src\|href\)="[^"]*missing[^"]*"' site/index.html
test "$of_mkdocs" = 1 && test "$of_zensical" = 0 && grep -q "No issues found" "$folder/zensical.log"
