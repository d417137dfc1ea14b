#!/usr/bin/env bash
# Runs everything here against a real coordinator:  ./ci.sh path/to/tercet
# Makes ./.venv and ./generated, both ignored by git. Ends with the line of Python's unittest.
set -euo pipefail

tercet=$(realpath "${1:?"usage: ci.sh PATH-TO-TERCET"}")
[ -x "$tercet" ] || { echo "ci.sh: $tercet is not a program; build it with: cargo build" >&2; exit 1; }
cd "$(dirname "$0")"

python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt ruff==0.17.5
.venv/bin/ruff check .
.venv/bin/ruff format --check .
PYTHON=.venv/bin/python ./generate.sh
TERCET=$tercet PYTHONPATH=generated .venv/bin/python -m unittest -v test_fence test_client test_participant test_session test_coordinator
