#!/usr/bin/env bash
# setup.sh [dev] [bench] [torch] [onnx] [heif]
# Makes the virtual environment ($VENV, .venv if unset) and installs the packages: what all commands need, and with dev what the tests need,
# with bench what the benchmarks measure against, with torch what convert_torch.py reads files with, with onnx what models in that format
# need, and with heif what reads HEIC pictures. A second run finds everything installed and takes no time.
source "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh" || exit

files=(requirements.txt)
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then files+=(requirements-cuda.txt); fi
for extra in "$@"; do
    case $extra in
        dev | bench | torch | onnx | heif) files+=("requirements-$extra.txt") ;;
        *) fail "'$extra': use no argument, dev, bench, torch, onnx or heif" ;;
    esac
done

# Each file that was installed leaves a copy in the environment: what is the same needs no second look.
todo=()
for file in "${files[@]}"; do
    { [ -x "$VENV/bin/python" ] && cmp -s "$file" "$VENV/installed/$file"; } || todo+=("$file")
done
if [ ${#todo[@]} -eq 0 ]; then exit 0; fi

if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then # there is none, or one that was stopped while it was made
    supported='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$python" -c "$supported" 2>/dev/null; then break; else python=; fi
    done
    [ -n "$python" ] || fail "no Python 3.11, 3.12 or 3.13 found; install one, or name it in \$PYTHON"
    echo "Making a virtual environment in $VENV ..."
    attend "$python" -m venv "$VENV" || {
        status=$?
        [ "$status" -gt 128 ] || echo "setup.sh: $python cannot make a virtual environment (Debian: apt install python3-venv)" >&2
        exit "$status"
    }
fi
echo "Installing ${todo[*]} (TensorFlow is large) ..."
# The core's file comes along each time: its pins hold for what the others ask for.
attend "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt "${todo[@]/#/-r}"
mkdir -p "$VENV/installed"
cp "${todo[@]}" "$VENV/installed/"
