#!/usr/bin/env bash
# Build the sdist, build the wheel from that sdist, and install the wheel: what a user gets is what is tested.
#   build_wheel.sh VENV        the virtual environment already holds the build requirements and the dependencies
#
# The kernels take two minutes to compile and seldom change.  They are kept in build/kernels-KEY, where KEY is a digest of
# everything that they are made from; a wheel for other sources never sees them.
set -euo pipefail
venv=$1
python=$venv/bin/python
shopt -s nullglob

made_from() {
  cat setup.py src/onotrain/_kernels/*.{pyx,pxd,h}
  "$python" -VV
  "$venv/bin/pip" freeze | grep -iE '^(cython|numpy|scipy|setuptools)=='
  "${CC:-gcc}" --version
  env | grep -E '^(CC|CFLAGS|CPPFLAGS|LDFLAGS|ONOTRAIN_DEBUG_KERNELS)=' || true
}
kernels=$PWD/build/kernels-$(made_from | sha256sum | cut -c1-16)
for old in build/kernels-*; do
  if [[ $PWD/$old != "$kernels" ]]; then rm -rf "$old"; fi
done
mkdir -p "$kernels"
# Of an earlier build only the compiled modules are kept: a Python file that was removed must not stay in the wheel.
find "$kernels" -path '*/lib.*' -type f ! -name '*.so' -delete
printf '[build]\nbuild_base = %s\n' "$kernels" > build/distutils.cfg

# An old list of files would bring files into the sdist that are gone.
rm -rf build/wheel src/*.egg-info
DIST_EXTRA_CONFIG=$PWD/build/distutils.cfg "$python" -m build --no-isolation --outdir build/wheel .
"$venv/bin/pip" install --no-index --no-deps --force-reinstall build/wheel/onotrain-*.whl
