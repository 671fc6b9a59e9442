#!/usr/bin/env bash
# Has a small OpenStack and its message queue, for the tests of the engine; installs what is missing.
set -euo pipefail

folder=${XDG_CACHE_HOME:-$HOME/.cache}/trivium/openstack
lock=requirements/openstack-lab.lock

if [[ ! -x /usr/lib/rabbitmq/bin/rabbitmq-server ]]; then
    tools/apt.sh rabbitmq-server
fi

if ! cmp -s "$lock" "$folder/installed.lock"; then
    rm -rf "$folder"
    mkdir -p "$folder"
    tools/venv.sh "$folder/venv"
    "$folder/venv/bin/python" -m pip --disable-pip-version-check --no-input install -qq \
        --require-hashes -r "$lock"
    cp "$lock" "$folder/installed.lock"
fi
