#!/usr/bin/env bash
# Runs the tests (arguments go to pytest), on several cores at once (MMPO_TEST_WORKERS=1 for one). Makes the
# environment itself.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export HF_HUB_OFFLINE=1
cores="$(python -c 'import os; print(min(4, os.cpu_count() or 1))')"
workers="${MMPO_TEST_WORKERS:-$cores}"
if [ "$workers" -gt 1 ]; then
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # a worker per core; threads of theirs would only wait for each other
    exec python -m pytest --numprocesses "$workers" --dist worksteal "$@"
fi
exec python -m pytest "$@"
