#!/usr/bin/env bash
# Installs what the browser modules of the console and the browser tests of the whole system need besides edge-deploy/setup.sh: Chromium, Node, npm and a
# font with Chinese (Debian packages; needs root), and the node modules of package-lock.json, in node_modules/ beside package.json, which git ignores.
# Takes seconds if they are there already. Without them those tests are skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'browser tests: %s\n' "$*"; }

as_root() { if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi; }

# A program may come from elsewhere than Debian, so it is the program that is looked for, and not the package.
missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need chromium chromium
need node nodejs
need npm npm
[[ -n $(fc-list :lang=zh 2>/dev/null) ]] || missing+=(fonts-wqy-microhei)

if ((${#missing[@]})); then
    if ! command -v apt-get >/dev/null || ! as_root true 2>/dev/null; then
        say "missing, and can only be installed by root on Debian: ${missing[*]}" >&2
        exit 1
    fi
    say "installing ${missing[*]}"
    as_root apt-get update -q >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null
fi

# lab/tests/browser.rs looks for this file.
installed=node_modules/.installed-$(sha256sum package-lock.json | cut -c1-16)
if [[ ! -e $installed ]]; then
    say "installing the node modules of package-lock.json"
    npm ci --silent
    touch "$installed"
fi
say "Chromium $(chromium --version 2>/dev/null | grep -oE '[0-9.]+' | head -n 1), Node $(node --version), and the node modules are installed"
