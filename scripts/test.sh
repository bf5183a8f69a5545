#!/usr/bin/env bash
# Runs the tests (arguments go to pytest). Makes the environment itself.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export HF_HUB_OFFLINE=1
exec python -m pytest "$@"
