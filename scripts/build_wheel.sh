#!/usr/bin/env bash
# Build the sdist, build the wheel from that sdist, and install the wheel: what a user gets is what is tested.
#   build_wheel.sh VENV        the virtual environment already holds the build requirements and the dependencies
set -euo pipefail
venv=$1
# Stale: files that no longer exist would be listed in the new sdist.
rm -rf build/wheel src/*.egg-info
"$venv/bin/python" -m build --no-isolation --outdir build/wheel .
"$venv/bin/python" -m pip install --no-index --no-deps --force-reinstall build/wheel/onotrain-*.whl
