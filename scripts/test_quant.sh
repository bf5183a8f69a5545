#!/usr/bin/env bash
# The tests that need bitsandbytes, which is fetched into a folder of its own: beside diffusers in .venv it would print
# to stderr at every start on a machine without a GPU.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
extra="$(mktemp -d)"
trap 'rm -rf "$extra"' EXIT
command -v uv >/dev/null || python -m pip install --quiet uv
uv pip install --quiet --no-deps --python "$venv/bin/python" --constraint constraints.txt --target "$extra" bitsandbytes
HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" MMPO_TEST_QUANT=1 PYTHONPATH="$extra" \
    python -m pytest tests/test_switches.py tests/test_vlm_quant.py -k "eight_bit or 4_bit"
