#!/usr/bin/env bash
# Sets up an environment with the tested set of packages, then runs ruff, pyright and the quick tests.
#
#   bash scripts/test.sh                        everything of the quick tier, one process per core
#   bash scripts/test.sh -m "slow and not long" further arguments go to pytest; here, the slow tests that CI runs
#   bash scripts/test.sh -m long                trainings of many minutes
#   ROBOFUSE_VENV=/tmp/env bash scripts/test.sh an environment elsewhere than .venv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras="[test]"
. scripts/environment.sh

say "ruff"
"$venv/bin/python" -m ruff check .
"$venv/bin/python" -m ruff format --check .
say "pyright"
"$venv/bin/python" -m pyright --pythonpath "$venv/bin/python"
say "pytest"
# Small networks gain nothing from a second thread, and two processes with two each would get in each other's way.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "$venv/bin/python" -m pytest -n auto --dist loadscope "$@"
