#!/usr/bin/env bash
# test.sh [flags of pytest]: sets up, and runs the tests.
source "$(dirname "$0")/common.sh"

bash scripts/setup.sh dev
"$VENV/bin/python" -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile "$@"
