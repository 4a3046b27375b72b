#!/usr/bin/env bash
# train.sh NAME [flags of train.py]
# Trains the run checkpoints/NAME on what build.sh made in data/tfrecords/NAME, or continues it.
# These folders are the project's; paths that are typed are from where you stand. train.sh NAME --help lists the flags.
source "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh" || exit
name_domains "$@"

train_flags "${@:2}"
python train.py "${flags[@]}"
