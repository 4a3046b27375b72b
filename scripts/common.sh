# shellcheck shell=bash disable=SC2034

# Sourced by the other scripts: goes to the project's folder, finds Python, and names what belongs to the data set NAME.
# Keeps to bash 3.2, which is what macOS has; there an empty array counts as unset.
set -euo pipefail
HERE=$PWD # where the caller stands
# It may have been called by a link of another name.
SCRIPT=$(readlink -f "$0" 2>/dev/null || echo "$0")
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit
PROJECT=$PWD
export VENV="${VENV:-.venv}"
[[ $VENV == /* ]] || VENV=$PROJECT/$VENV

usage() { # the comment that a script begins with, of which the first line is how it is called
    sed -n -e '2s|^# |usage: bash scripts/|p' -e '3,/^[^#]/s/^# \{0,1\}//p' "scripts/${SCRIPT##*/}"
}
case ${1:-} in
    -h | --help) usage && exit ;;
esac

misuse() {
    usage >&2
    exit 2
}

fail() {
    echo "${0##*/}: ${1//$'\n'/ }" >&2
    exit 2
}

# Runs a command, and hands on the signals that come meanwhile, as bash would end alone or let them wait. The command gets a process group
# of its own: they are for all that it starts, and of a terminal's Ctrl-C it must not get two.
attend() { # COMMAND...
    local child='' caught='' status stopped=0
    trap 'hand_on INT 130' INT
    trap 'hand_on TERM 143' TERM
    trap 'hand_on HUP 129' HUP
    trap 'caught=TSTP; kill -s STOP -- "-$child" && kill -s STOP $$ && kill -s CONT -- "-$child" || true' TSTP # Ctrl-Z
    set -m
    "$@" </dev/null &
    child=$!
    set +m
    [ "$stopped" -eq 0 ] || hand_on "$caught" "$stopped" # it came before there was a child
    while
        caught=''
        wait "$child" && status=0 || status=$?
        [ -n "$caught" ] # a signal ends the wait, but maybe not the command
    do :; done
    trap - INT TERM HUP TSTP
    [ "$status" -ne 0 ] || status=$stopped
    return "$status"
}

hand_on() { # SIGNAL STATUS
    caught=$1 stopped=$2
    [ -z "$child" ] || kill -s "$1" -- "-$child" 2>/dev/null || true
}

step() { # TITLE COMMAND...: says what comes, and runs it
    printf '\n\033[1m%s\033[0m\n$ %s\n' "$1" "${*:2}"
    attend "${@:2}"
}

python() { # ARGUMENTS...: becomes Python, so that this script's signals are Python's
    [ -x "$VENV/bin/python" ] || attend bash "$PROJECT/scripts/setup.sh" || exit
    exec "$VENV/bin/python" "$@"
}

# apple2orange: X is apple, Y is orange. A name without a 2, maps: X is maps_A, Y is maps_B. NAME_pairs: as NAME, for pix2pix.
name_domains() { # [NAME]
    [ $# -gt 0 ] || misuse
    [[ $1 =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]] || fail "'$1' is no name of a data set: use letters, digits, _, . and -, as in cat2dog"
    NAME=$1
    case ${NAME%_pairs} in
        ?*2?*) X=${NAME%%2*} Y=${NAME#*2} Y=${Y%_pairs} ;;
        *) X=${NAME%_pairs}_A Y=${NAME%_pairs}_B ;;
    esac
    X_RECORDS=data/tfrecords/$NAME/$X.tfrecords Y_RECORDS=data/tfrecords/$NAME/$Y.tfrecords
}

is_typed() { # FLAG TYPED...
    case " ${*:2} " in
        *" $1 "* | *" $1="*) ;;
        *) return 1 ;;
    esac
}

# Adds what was typed to `flags`. Python runs in the project's folder: where the caller stands elsewhere, paths are made absolute.
add_typed() { # TYPED...
    local word flag='' before path
    for word in "$@"; do
        before='' path=no
        if [[ $word == --*=* ]]; then
            flag=${word%%=*} before=${word%%=*}= word=${word#*=}
        fi
        case $flag in
            --X | --Y | --*_paired | --*_test | --*_dir | --*_file | --pictures | --logdir) path=yes ;;
            --features | --init_from | --load_model | --*_model) [[ $word != */* ]] || path=yes ;; # else it is a name
        esac
        if [[ $path == yes && $word == [!/]* && $word != *://* && $HERE != "$PROJECT" ]]; then
            word=$HERE/$word
        fi
        flags+=("$before$word")
        flag=$word
    done
}

# Sets `flags` of train.py: the run and the records of NAME, and what was typed.
train_flags() { # TYPED...
    if [ -e "checkpoints/$NAME/config.json" ]; then
        flags=(--load_model "$NAME")
    else
        flags=(--run_name "$NAME")
        [[ $NAME != *_pairs ]] || flags+=(--model pix2pix)
        add_records --X "$X_RECORDS" "$@"
        add_records --Y "$Y_RECORDS" "$@"
    fi
    add_typed "$@"
}

# Adds to `flags` what build.sh made of a domain, one file or shards, unless other records, or help, were typed.
add_records() { # FLAG FILE TYPED...
    local shards shard count
    if is_typed "$1" "${@:3}" || is_typed -h "${@:3}" || is_typed --help "${@:3}"; then return; fi
    if [ -e "$2" ]; then
        flags+=("$1" "$2")
        return
    fi
    shards=("${2%.tfrecords}"-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].tfrecords)
    [ -e "${shards[0]}" ] || fail "$2: is not there yet; make it with: bash scripts/build.sh $NAME"
    count=${shards[0]: -15:5}
    for shard in "${shards[@]}"; do
        [[ $shard == *"-of-$count.tfrecords" ]] || fail "${shards[0]} and $shard: are of two numbers of shards; remove those that are old"
    done
    flags+=("$1" "$2@$((10#$count))")
}
