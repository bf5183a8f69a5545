#!/usr/bin/env bash
# Builds the wheel, installs it into a clean environment outside of this folder, and tries it there as a user would:
# doctor, init, schema, and the demo (skip it with --quick). Makes its own temporary folder and removes it.
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv="$(command -v uv || echo "$venv/bin/uv")"
[ -x "$uv" ] || { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv; uv="$venv/bin/uv"; }
"$uv" build --quiet --wheel --out-dir "$folder" "$root"
"$uv" venv --quiet --python "$venv/bin/python" "$folder/clean"
"$uv" pip install --quiet --python "$folder/clean/bin/python" --constraint "$root/constraints.txt" "$folder"/*.whl
mkdir "$folder/elsewhere"
cd "$folder/elsewhere"
export PATH="$folder/clean/bin:$PATH" HF_HUB_OFFLINE=1
unset PYTHONPATH VIRTUAL_ENV
python - <<'PYTHON'
import mmpo, pipelines, rewards, sys
from pathlib import Path
for package in (mmpo, pipelines, rewards):
    assert Path(package.__file__).is_relative_to(sys.prefix), package.__file__
PYTHON
mmpo doctor
mmpo init --list
mmpo init --model shapes/sd --data pairs
mmpo train diffusion_dpo.yaml --dry-run >dry-run.txt
mmpo schema >schema.json
[ "${1:-}" = "--quick" ] || mmpo demo
echo "the wheel works in a clean environment"
