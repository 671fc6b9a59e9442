#!/usr/bin/env bash
# Makes the virtual environment at $1 with Python 3.11 or newer; a working one is left as it is.
# PYTHON=/path/to/python chooses; otherwise python3, then newer names, are tried.
set -euo pipefail
venv=$1

good() { "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; }

if [[ -x $venv/bin/python ]] && good "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

python=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if command -v "$candidate" >/dev/null && good "$candidate"; then
        python=$candidate
        break
    fi
done
if [[ -z $python ]]; then
    echo "Trivium needs Python 3.11 or newer; found: $(${PYTHON:-python3} --version 2>&1 || echo none)." >&2
    echo "Install it, or name it: make PYTHON=/path/to/python3.11 …" >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    tools/apt.sh python3-venv || {
        echo "Python's venv module is missing: install the package python3-venv." >&2
        exit 1
    }
fi

rm -rf "$venv"
"$python" -m venv "$venv"
