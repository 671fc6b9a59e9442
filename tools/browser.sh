#!/usr/bin/env bash
# Has Chromium and a font with Chinese letters, for the console's tests; installs what is missing.
# CHROMIUM=/path/to/chromium names one that is there already.
set -euo pipefail

missing=()
command -v "${CHROMIUM:-chromium}" >/dev/null || missing+=(chromium)
if ! command -v fc-list >/dev/null; then
    missing+=(fontconfig fonts-wqy-microhei)
elif [[ -z $(fc-list :lang=zh-cn family) ]]; then
    missing+=(fonts-wqy-microhei)
fi
if [[ ${#missing[@]} -gt 0 ]]; then
    tools/apt.sh "${missing[@]}"
fi
