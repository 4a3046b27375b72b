#!/usr/bin/env bash
# tensorboard.sh [NAME] [flags of tensorboard]
# Shows the run checkpoints/NAME, or all runs, in a browser. tensorboard.sh NAME --help lists the flags.
source "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh" || exit

name=''
if [[ $# -gt 0 && $1 != -* ]]; then
    name=$1
    shift
    if [[ $name == */* || ! -e checkpoints/$name/config.json ]]; then
        runs=''
        for config in checkpoints/*/config.json; do
            [ ! -e "$config" ] || runs+=", $(basename "${config%/*}")"
        done
        runs=${runs#, }
        fail "$name: no such run in checkpoints/, which has ${runs:-none}; train.sh makes one"
    fi
fi

flags=(--logdir "checkpoints/$name")
add_typed "$@"
# It loads TensorFlow, whose first lines only train.py's way of loading it keeps away. A GPU is left to the training.
export CUDA_VISIBLE_DEVICES=''
echo "starting TensorBoard, some seconds ..."
python -c '
from system import devices
devices.quiet_tensorflow(lambda: None)
from tensorboard.main import run_main
run_main()' "${flags[@]}"
