#!/usr/bin/env bash
# Makes the virtual environment ($VENV, .venv if unset) and installs the packages; "setup.sh dev" adds what the tests need,
# "setup.sh bench" what the benchmarks measure against, "setup.sh torch" what convert_torch.py reads files with, and "setup.sh onnx" what
# models in that format need.
# A second run finds everything installed and takes no time.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV="${VENV:-.venv}"

files=(requirements.txt)
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then files+=(requirements-cuda.txt); fi
for extra in "$@"; do
    case $extra in
        dev | bench | torch | onnx) files+=("requirements-$extra.txt") ;;
        *) echo "setup.sh: '$extra': use no argument, dev, bench, torch or onnx" >&2 && exit 2 ;;
    esac
done

# Each file that was installed leaves a copy in the environment: what is the same needs no second look.
todo=()
for file in "${files[@]}"; do
    cmp -s "$file" "$VENV/installed/$file" || todo+=("$file")
done
if [ ${#todo[@]} -eq 0 ] && [ -x "$VENV/bin/python" ]; then exit 0; fi

if [ ! -x "$VENV/bin/python" ]; then
    supported='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$python" -c "$supported" 2>/dev/null; then break; else python=; fi
    done
    [ -n "$python" ] || { echo "setup.sh: no Python 3.11, 3.12 or 3.13 found; install one, or name it in \$PYTHON" >&2 && exit 2; }
    echo "Making a virtual environment in $VENV ..."
    "$python" -m venv "$VENV" || { echo "setup.sh: $python cannot make a virtual environment (Debian: apt install python3-venv)" >&2 && exit 1; }
fi
echo "Installing ${todo[*]} (TensorFlow is large) ..."
# The core's file comes along each time: its pins hold for what the others ask for.
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt "${todo[@]/#/-r}"
mkdir -p "$VENV/installed"
cp "${todo[@]}" "$VENV/installed/"
