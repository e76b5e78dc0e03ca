#!/bin/sh
# Runs the newest Python that qm supports with the given arguments: find-python.sh -m venv DIR
# $QM_PYTHON names one directly.
set -eu
for candidate in ${QM_PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
    if "$candidate" -c 'import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$candidate" "$@"
    fi
done
echo "qm needs Python 3.11 or newer with venv; install it (Debian: apt install python3-venv), or set QM_PYTHON" >&2
exit 1
