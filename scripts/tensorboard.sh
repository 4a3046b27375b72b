#!/usr/bin/env bash
# tensorboard.sh [NAME] [flags of tensorboard]: shows the run checkpoints/NAME, or all runs.
source "$(dirname "$0")/common.sh"

python -m tensorboard.main --logdir "checkpoints/${1:-}" "${@:2}"
