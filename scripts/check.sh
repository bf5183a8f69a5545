#!/usr/bin/env bash
# Format, lint and types. `scripts/check.sh --fix` writes the format and the safe lint fixes.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
if [ "${1:-}" = "--fix" ]; then
    ruff check --fix .
    ruff format .
fi
ruff format --check .
ruff check .
mypy
