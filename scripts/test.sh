#!/usr/bin/env bash
# Sets up an environment with the tested set of packages, then runs ruff, pyright and the quick tests.
#
#   bash scripts/test.sh                  everything
#   bash scripts/test.sh -m slow          further arguments go to pytest; here, the slow tests
#   ROBOFUSE_VENV=/tmp/env bash scripts/test.sh   an environment elsewhere than .venv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras="[test]"
. scripts/environment.sh

say "ruff"
"$venv/bin/python" -m ruff check .
say "pyright"
"$venv/bin/python" -m pyright --pythonpath "$venv/bin/python"
say "pytest"
"$venv/bin/python" -m pytest "$@"
