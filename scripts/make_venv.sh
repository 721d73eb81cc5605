#!/usr/bin/env bash
# Make a virtual environment with a Python that can build the compiled kernels, or say what is missing.
#   make_venv.sh DIRECTORY        PYTHON=/path/to/python chooses the interpreter
set -euo pipefail
venv=$1

fail() {
  printf 'onotrain set-up: %s\n' "$1" >&2
  if [[ -n ${2:-} ]]; then printf '  on Debian or Ubuntu: apt-get install %s\n' "$2" >&2; fi
  exit 1
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

python=
for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
  if new_enough "$candidate"; then
    python=$(command -v "$candidate")
    break
  fi
done
if [[ -z $python ]]; then
  fail "Python 3.11 or newer is needed; tried: ${PYTHON:-python3.11 to python3.14, python3} (choose one with PYTHON=...)" \
    "python3 python3-venv python3-dev"
fi

"$python" -c 'import ensurepip, venv' 2> /dev/null ||
  fail "$python has no venv or ensurepip module" "python3-venv"

compiler=${CC:-$("$python" -c 'import sysconfig; print((sysconfig.get_config_var("CC") or "gcc").split()[0])')}
command -v "$compiler" > /dev/null || compiler=gcc
command -v "$compiler" > /dev/null ||
  fail "no C compiler (gcc) for the kernels" "gcc libc6-dev"
printf '#include <math.h>\n' | "$compiler" -fsyntax-only -x c - 2> /dev/null ||
  fail "$compiler finds no C library headers (math.h)" "libc6-dev"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
printf '#include <Python.h>\n' | "$compiler" -I"$include" -fsyntax-only -x c - 2> /dev/null ||
  fail "$compiler finds no Python.h for $python (looked in $include)" "python3-dev"

rm -rf "$venv"
"$python" -m venv "$venv"
