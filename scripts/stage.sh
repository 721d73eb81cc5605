#!/usr/bin/env bash
# Run a command quietly: one line with its title and time; the end of its output only if it fails.
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
  tail -n "${STAGE_TAIL:-60}" "$log" >&2
  exit "$status"
fi
