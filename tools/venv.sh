#!/bin/sh
# Make the virtual environment named by the first argument with Python 3.11 or newer.
set -eu

venv=$1
for python in ${PYTHON:-} python3.11 python3 python3.12 python3.13 python3.14; do
    # Run it: a name on the path may be a shim for a version that is not installed.
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        found=$python
        break
    fi
done
if [ -z "${found:-}" ]; then
    echo "edgewright needs Python 3.11 or newer, and there is none on the path." >&2
    echo "  hint: on Debian 'apt install python3 python3-venv', or make PYTHON=/path/to/python3" >&2
    exit 1
fi
echo "making $venv with $("$found" --version)"
if ! "$found" -m venv --clear "$venv" >"$venv.log" 2>&1; then
    cat "$venv.log" >&2
    rm -rf "$venv" "$venv.log"
    echo "  hint: on Debian 'apt install python3-venv', then make again" >&2
    exit 1
fi
rm -f "$venv.log"
