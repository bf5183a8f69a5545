# Sourced by the other scripts: makes .venv with the tested versions, once, and puts it on PATH.
# Needs only Python 3.11 or newer (override the choice with PYTHON=...). Uses uv when present, else fetches it by pip.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
venv="$root/.venv"

find_python() {
    local name
    for name in ${PYTHON:-} python3.13 python3.12 python3.11 python3 python; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "mmpo needs Python 3.11 or newer on PATH (or PYTHON=/path/to/python)" >&2
    return 1
}

stamp="$(cat pyproject.toml constraints.txt | cksum)"
if [ "$(cat "$venv/.mmpo-installed" 2>/dev/null || true)" != "$stamp" ]; then
    echo "Setting up $venv (torch and its runtime are about 5 GB; this happens once)..."
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$(find_python)" -m venv --clear "$venv"
    if command -v uv >/dev/null 2>&1; then
        uv=uv
    else
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
        uv="$venv/bin/uv"
    fi
    "$uv" pip install --quiet --python "$venv/bin/python" --constraint constraints.txt --editable '.[dev]'
    echo "$stamp" >"$venv/.mmpo-installed"
fi
export PATH="$venv/bin:$PATH"
export HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false
