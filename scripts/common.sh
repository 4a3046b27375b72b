# shellcheck shell=bash disable=SC2034
# Sourced by the other scripts: goes to the project's folder, finds Python, and names what belongs to the data set NAME ($1).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export VENV="${VENV:-.venv}"

python() {
    [ -x "$VENV/bin/python" ] || bash scripts/setup.sh || exit
    "$VENV/bin/python" "$@"
}

fail() {
    echo "${0##*/}: $1" >&2
    exit 2
}

# apple2orange: X is apple, Y is orange. A name without a 2, maps: X is maps_A, Y is maps_B.
name_domains() {
    [[ "${1:-}" =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]] || fail "'${1:-}' is no name of a data set: $2"
    NAME=$1
    case $NAME in
        ?*2?*) X=${NAME%%2*} Y=${NAME#*2} ;;
        *) X=${NAME}_A Y=${NAME}_B ;;
    esac
    X_RECORDS=data/tfrecords/$NAME/$X.tfrecords Y_RECORDS=data/tfrecords/$NAME/$Y.tfrecords
}
