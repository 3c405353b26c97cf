#!/usr/bin/env bash
# Installs schemathesis, which fuzzes the console's JSON API in its tests, into a virtual environment outside the repository: pinned versions, checked against
# their hashes, nothing built from source. Takes seconds if it is there already. Prints the folder. Without it that test is skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The place that tests/console/schemathesis.rs looks at; another set of packages is another place.
hash=$(sha256sum requirements.txt | cut -c1-16)
folder=${GRIDWATCH_SCHEMATHESIS:-${XDG_CACHE_HOME:-$HOME/.cache}/gridwatch/schemathesis-$hash}

if [[ ! -e $folder/installed ]]; then
    python=${PYTHON:-python3}
    if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "schemathesis: needs Python 3.11 or newer with venv; on Debian: apt-get install python3-venv" >&2
        exit 1
    fi
    "$python" -m venv --clear "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r requirements.txt
    "$folder/bin/schemathesis" --version >&2
    touch "$folder/installed"
fi
echo "$folder"
