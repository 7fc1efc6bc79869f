#!/usr/bin/env bash
# What surprises: `dagster-celery worker start` starts `celery worker` as a child and waits for it. SIGTERM ends the first at once and never
#   reaches the second, which goes on taking runs with nobody to watch it. Celery's own answer to SIGTERM, to take nothing new and end what
#   it has begun, never comes. As the first process of a container, where a signal without a handler does nothing, it does not even end.
# Who meets it: whoever runs workers in containers or below a supervisor that signals the process which it started (docker stop, supervisord,
#   Kubernetes): each stop or upgrade lasts to the end of the grace period and then kills the runs, or leaves a worker of the old version.
# Version: dagster-celery 0.29.27 with dagster 1.13.27 and celery 5.7.0.
# Source: dagster_celery.cli, worker_start_command (subprocess.check_call); Celery's documentation, Workers Guide, Stopping the worker.
# Instead: start celery itself: celery -A dagster_celery.app worker, with CELERY_BROKER_URL and CELERY_RESULT_BACKEND.
set -euo pipefail
folder=$(mktemp -d)
child=
trap 'if [ -n "$child" ]; then kill -KILL $child 2>/dev/null || true; fi; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27 dagster-celery==0.29.27 celery==5.7.0
export DAGSTER_HOME="$folder/home" PATH="$folder/venv/bin:$PATH"
mkdir "$DAGSTER_HOME" && cd "$folder"
echo 'telemetry: {enabled: false}' > "$DAGSTER_HOME/dagster.yaml"
# A broker within the worker: nothing else has to run.
echo 'execution: {config: {broker: "memory://", backend: "cache+memory://"}}' > worker.yaml

answer() {  # starts a worker by the arguments; prints whether celery said that it shuts down, and whether it is still there
  "$@" > worker.log 2>&1 &
  started=$!
  for _ in $(seq 120); do if grep -q "ready\." worker.log; then break; fi; sleep 0.5; done
  child=$(pgrep -P "$started" -f "celery -A" || true)
  first=${child:-$started}
  kill -TERM "$started"
  wait "$started" 2>/dev/null || true
  for _ in $(seq 10); do if kill -0 "$first" 2>/dev/null; then sleep 0.5; fi; done
  said=$(grep -c "Warm shutdown" worker.log || true)
  if kill -0 "$first" 2>/dev/null; then there=yes; kill -KILL "$first"; else there=no; fi
  child=
  echo "warm shutdowns: $said, celery still there 5 s later: $there"
}

echo "dagster-celery $(pip show dagster-celery 2>/dev/null | sed -n 's/^Version: //p'), celery $(pip show celery 2>/dev/null | sed -n 's/^Version: //p')"
wrapped=$(answer dagster-celery worker start -A dagster_celery.app -y worker.yaml -- --pool solo)
direct=$(CELERY_BROKER_URL=memory:// CELERY_RESULT_BACKEND=cache+memory:// answer celery -A dagster_celery.app worker --pool solo --loglevel INFO)
echo "dagster-celery worker start: $wrapped"
echo "celery worker:               $direct"
[ "$wrapped" = "warm shutdowns: 0, celery still there 5 s later: yes" ] && [ "$direct" = "warm shutdowns: 1, celery still there 5 s later: no" ] || { echo "behaves otherwise now"; exit 1; }
echo "as described"
