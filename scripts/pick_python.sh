#!/bin/sh
# Prints the Python interpreter to make the virtual environment with.
#
#   scripts/pick_python.sh [--latest] [INTERPRETER]
#
# INTERPRETER, a name or a path: take this one, or say why not.
#
# Python 3.11, 3.10 and 3.9 come first: they get TensorFlow 2.15, the stack that csml_tf is
# written on. 3.12 and 3.13 get a later TensorFlow; --latest takes no other, the newest first.
# Each is looked for in PATH, then among the versions that pyenv and uv keep outside it.
set -u

oldest=9
versions="3.11 3.10 3.9 3.12 3.13"
example=3.11
if [ "${1:-}" = --latest ]; then
    oldest=12
    versions="3.13 3.12"
    example=3.13
    shift
fi

# A command that exists may still be a pyenv shim without a version behind it, or a Debian
# Python without its venv package, so every candidate has to run.
fits() {
    "$1" -c '
import ensurepip, sys, venv
sys.exit(not (3, '"$oldest"') <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

take_if_fits() {
    if fits "$1"; then
        printf '%s\n' "$1"
        exit 0
    fi
}

try_path() { # Every file of this name in PATH: a broken shim may hide a Python that works.
    saved_ifs=$IFS
    IFS=:
    for folder in $PATH; do
        [ -x "$folder/$1" ] && take_if_fits "$folder/$1"
    done
    IFS=$saved_ifs
}

if [ -n "${1:-}" ]; then
    take_if_fits "$1"
    echo "$1 does not run, is not Python 3.$oldest to 3.13, or lacks the venv and ensurepip" \
        "modules: give another one, as in 'make PYTHON=python$example'." >&2
    exit 1
fi

pyenv_versions=${PYENV_ROOT:-$HOME/.pyenv}/versions
uv_versions=${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}
for version in $versions; do
    try_path "python$version"
    for python in "$pyenv_versions/$version".*/bin/python3 "$uv_versions/cpython-$version"*/bin/python3; do
        take_if_fits "$python"
    done
done
try_path python3

echo "No Python 3.$oldest to 3.13 with venv was found: install one, for instance with" \
    "'apt-get install python$example python$example-venv', 'pyenv install $example' or" \
    "'uv python install $example', or name yours as in 'make PYTHON=/path/to/python$example'." >&2
exit 1
