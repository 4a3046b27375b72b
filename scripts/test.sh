#!/usr/bin/env bash
# test.sh [flags of pytest]
# Sets up, and runs the tests: all but those that take long, which "test.sh -m long" runs.
source "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh" || exit

attend bash scripts/setup.sh dev
python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile "$@"
