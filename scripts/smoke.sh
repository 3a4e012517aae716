#!/usr/bin/env bash
# Builds the source distribution and, from it, the wheel; installs that without extras into an empty environment outside
# the checkout; and tries it there: every public name and command, the data that come along, a foreign project.
#
#   bash scripts/smoke.sh                       all of it happens in a temporary folder
#   PYTHON=python3.12 bash scripts/smoke.sh     with another Python than python3
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }

say "Building"
mkdir "$scratch/source" "$scratch/away"
# a copy, as a build leaves files in the tree, and an older build's files would come into the wheel
git ls-files -z --cached --others --exclude-standard | xargs -0 cp -P --parents -t "$scratch/source"
cp constraints.txt scripts/smoke_*.py "$scratch"
cd "$scratch"
"${PYTHON:-python3}" -m venv build
build/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt setuptools
(cd source && ../build/bin/python -c 'from setuptools import build_meta; build_meta.build_sdist("../dist")' >/dev/null)
build/bin/python -m pip wheel -q --no-deps --no-build-isolation -w dist dist/*.tar.gz
ls dist

say "Installing into an empty environment"
"${PYTHON:-python3}" -m venv empty
empty/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt dist/*.whl

say "Trying it"
cd away # -I: neither the folder of the script nor PYTHONPATH is searched
../empty/bin/python -I -c "import robofuse; assert robofuse.__file__.startswith('$scratch/empty/'), robofuse.__file__"
../empty/bin/robofuse --version
../empty/bin/robofuse list >/dev/null
../empty/bin/python -I -W error ../smoke_package.py
../empty/bin/python -I -W error ../smoke_foreign.py
say "Everything is there"
