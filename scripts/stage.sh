#!/usr/bin/env bash
# Run a command quietly: one line with its title and time; if it fails the end of its output, all of which is then kept
# in build/failed.log.
#   stage.sh TITLE COMMAND [ARGUMENT]...
set -euo pipefail
title=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf '%s ... ' "$title"
SECONDS=0
if "$@" > "$log" 2>&1 < /dev/null; then
  printf '%d s\n' "$SECONDS"
else
  status=$?
  printf 'failed (exit code %d)\n' "$status"
  tail -n 40 "$log" >&2
  mkdir -p build
  cp "$log" build/failed.log
  printf '(the whole output: build/failed.log)\n' >&2
  exit "$status"
fi
