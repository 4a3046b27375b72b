#!/usr/bin/env bash
# train_multi.sh N [NAME] [flags of train.py]
# Trains with N workers, 1 to 99, on this machine, over loopback, as N machines would; for trying it out.
# With NAME the data and the run are those of train.sh; paths that are typed are from where you stand.
# Ctrl-C and SIGTERM are passed on to all workers; a second one kills them.
source "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh" || exit
[ $# -gt 0 ] || misuse
[[ $1 =~ ^[1-9][0-9]?$ ]] || fail "'$1' is no number of workers: use 1 to 99"
count=$1 flags=()
if [ $# -ge 2 ] && [[ $2 != -* ]]; then
    name_domains "$2"
    train_flags "${@:3}"
else
    add_typed "${@:2}"
fi

[ -x "$VENV/bin/python" ] || attend bash scripts/setup.sh # whose words the next line would take for addresses
addresses=$(python -c "
import socket
free = [socket.create_server(('127.0.0.1', 0)) for _ in range($count)]  # all at once, so that no two are the same
print(', '.join(f'\"127.0.0.1:{s.getsockname()[1]}\"' for s in free))")
gpus=$(nvidia-smi -L 2>/dev/null | grep -c ^GPU || true)
# As train.py has it: to each of its two translations half of a worker's share of the processors.
export TF_NUM_INTRAOP_THREADS="${TF_NUM_INTRAOP_THREADS:-$((($(nproc) + 2 * count - 1) / (2 * count)))}"

worker() { # INDEX: becomes that worker, in a session of its own: a terminal's Ctrl-C reaches it through this script alone, once
    TF_CONFIG=$(printf '{"cluster": {"worker": [%s]}, "task": {"type": "worker", "index": %d}}' "$addresses" "$1")
    export TF_CONFIG
    if [ "$gpus" -gt 0 ] && [ -z "${CUDA_VISIBLE_DEVICES+set}" ]; then # one for each, or none: two workers cannot share one
        export CUDA_VISIBLE_DEVICES=$(($1 < gpus && count <= gpus ? $1 : -1))
    fi
    trap - INT # a background process would ignore it
    exec setsid setpriv --pdeathsig TERM "$VENV/bin/python" train.py "${flags[@]}"
}

prefix() { # INDEX: what a worker says, to the end of it, whatever signals a terminal sends
    trap '' INT TERM HUP
    exec sed -u "s/^/[$1] /"
}

# shellcheck disable=SC2329 # the traps call it
send() { # SIGNAL: to all workers that still run
    for pid in $(jobs -pr); do kill -s "$1" "$pid" 2>/dev/null || true; done
}

# shellcheck disable=SC2329
pass_on() { # SIGNAL
    caught=$1
    trap 'exit 1' INT TERM HUP
    send "$1"
}

trap 'send KILL' EXIT # whatever ends this script, no worker stays
workers=()
for ((i = 0; i < count; i++)); do
    if [ "$i" -eq 0 ]; then worker 0 & else worker "$i" > >(prefix "$i") 2>&1 & fi
    workers+=($!)
done
trap 'pass_on INT' INT
trap 'pass_on TERM' TERM
trap 'pass_on HUP' HUP

status=0
for pid in "${workers[@]}"; do
    caught=again
    while [ -n "$caught" ]; do # a signal ends the wait, but maybe not the worker
        caught=""
        wait "$pid" && ended=0 || ended=$?
    done
    [ "$status" -ne 0 ] || status=$ended
done
exit "$status"
